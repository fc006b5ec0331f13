"""Short trainings of a module, and what their meta-iterations saw and did."""

from lightning.pytorch import Callback, Trainer

from cmaml_pl.assembly import build_datamodule

TINY = [
    "train.tasks_per_batch=4",
    "rollout.envs_per_task=8",
    "rollout.horizon=30",
    "inner.steps=1",
    "critic.passes=1",
    "safety.dead_band=false",
    "logger.wandb=disabled",
]


class Recorder(Callback):
    """What each meta-iteration saw and did."""

    def __init__(self):
        self.tasks, self.theta, self.metrics = [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.tasks.append([task.id for task in batch])
        self.theta.append(pl_module.actor.vector())

    def on_train_epoch_end(self, trainer, pl_module):
        self.metrics.append({name: float(value) for name, value in trainer.callback_metrics.items()})
        self.end = pl_module.actor.vector()


def fit(module, config, *, iterations, callbacks=()):
    recorder = Recorder()
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=iterations,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[recorder, *callbacks],
    )
    trainer.fit(module, build_datamodule(config))
    return recorder
