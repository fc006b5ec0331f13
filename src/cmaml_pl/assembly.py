"""Builds all objects from a configuration. Modules below this one take plain arguments, not a configuration."""

import inspect
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import WandbLogger

from cmaml_callbacks import (
    BestCheckpoint,
    Eta,
    GracefulStop,
    Health,
    LastCheckpoint,
    LastValidation,
    LearningCurves,
    MetaProgress,
    MetricsCSV,
    RewardCritic,
    Safeguard,
    SafetyCritic,
    Throughput,
    WandbMetrics,
)
from cmaml_pl.algorithm.data import TaskDataModule
from cmaml_pl.algorithm.exploration import Exploration
from cmaml_pl.algorithm.module import CMAML
from cmaml_pl.configuration.schema import GAUSSIAN, Config
from cmaml_pl.cores import usable_cores
from cmaml_pl.distributed.devices import choose_accelerator, choose_strategy
from cmaml_pl.distributed.ranks import ALONE, Ranks
from cmaml_pl.distributed.threads import RowThreads
from cmaml_pl.envs.base import TaskEnv
from cmaml_pl.errors import UserError, did_you_mean
from cmaml_pl.imports import make_parts
from cmaml_pl.nets.networks import Actor, GaussianActor, NoValue, ValueNetwork
from cmaml_pl.nets.own_actor import make_own_actor
from cmaml_pl.rollout.rollouts import Rollouts
from cmaml_pl.rollout.task_data import AdvantageEstimator
from cmaml_pl.runs.checkpoint_io import AtomicCheckpointIO
from cmaml_pl.runs.checkpoints import load_checkpoint, restore
from cmaml_pl.runs.folder import RunFolder
from cmaml_pl.runs.start import open_run
from cmaml_pl.seeding import derive_generator, derive_seed
from cmaml_pl.tasks.base import split_tasks
from cmaml_pl.tracking.further_loggers import further_loggers
from cmaml_pl.tracking.keys import has_wandb_key, require_wandb_key
from cmaml_pl.tracking.wandb_logger import PatientWandbLogger, set_up_wandb

DECIDED_ELSEWHERE = {
    "max_epochs": "train.meta_iterations",
    "max_steps": "train.meta_iterations",
    "check_val_every_n_epoch": "train.validate_every",
    "logger": "the section logger",
    "default_root_dir": "run.dir",
    "accumulate_grad_batches": "train.tasks_per_batch",
    "fast_dev_run": "nothing: train.meta_iterations=1 tries a run",
    "enable_checkpointing": "nothing: every meta-iteration is saved",
    "enable_progress_bar": "quiet",
    "gradient_clip_val": "nothing: manual optimisation does not clip",
    "gradient_clip_algorithm": "nothing: manual optimisation does not clip",
    "plugins": "nothing: checkpoints are written in one move",
    "use_distributed_sampler": "nothing: every rank takes its own rows of a batch",
    "precision": "nothing: everything is computed in 32 bits",
}
"""Arguments of Lightning's Trainer that the user cannot set, and what decides each of them instead."""


@contextmanager
def open_module(config: Config, ranks: Ranks = ALONE) -> Iterator[CMAML]:
    """The module with its environments, which are closed when the block ends.

    Within the block torch uses `config.run.torch_threads` threads. With several ranks (processes) each rank gets an
    equal part of every batch of tasks, and the ranks of one machine share its cores.
    """
    # the threads are set before the module is built, because the digits of its first weights depend on them
    with _torch_threads(config.run.torch_threads), closing(build_module(config, ranks)) as module:
        yield module


def load_run(path: str | Path) -> tuple[CMAML, TaskDataModule]:
    """A trained module with its environments, and the data module with its tasks.

    Parameters, observation normaliser, critics, lambda, eta and the learned lengths of adaptation steps are read from
    the checkpoint. `module.adapt` adapts the policy to tasks, a Trainer can train the module further or test it, and
    `module.close()` closes its environments.

    Args:
        path: a checkpoint, or a run folder for its newest checkpoint.

    Raises:
        UserError: there is no such run or checkpoint, or its files are damaged or were changed.
    """
    checkpoint = load_checkpoint(Path(path))
    config, _ = open_run(RunFolder.of(checkpoint).path, checkpoint)
    module = build_module(config)
    restore(module, checkpoint)
    kept = checkpoint.content.get("callbacks", {}).get(Eta.__qualname__, {})
    module.eta.fill_(kept.get("eta", float(module.eta)))  # the callback Eta keeps eta, the module's state does not
    return module, build_datamodule(config)


def build_module(config: Config, ranks: Ranks = ALONE) -> CMAML:
    """The untrained module with its environments; its method `close` closes them."""
    if config.train.tasks_per_batch % ranks.size:
        raise UserError(
            f"train.tasks_per_batch is {config.train.tasks_per_batch}, but must be a multiple of the {ranks.size} "
            "processes (trainer.devices times trainer.num_nodes) that share the tasks."
        )
    workers = config.rollout.workers or max(1, usable_cores() // ranks.local)
    env = config.tasks.make_env(
        config.train.tasks_per_batch // ranks.size,
        config.rollout.envs_per_task,
        horizon=config.rollout.horizon,
        workers=workers,
    )
    exploration = _build_exploration(config)
    estimator = _build_estimator(config, env, told=exploration.hint_size if exploration else 0)
    return CMAML(
        rollouts=Rollouts(env, estimator.actor, seed=config.seed, ranks=ranks),
        estimator=estimator,
        inner=config.inner,
        outer=config.outer,
        deployment=config.deployment,
        eta=config.safety.eta if config.outer.safety_term else 0.0,
        safety_weighting=config.safety.weighting,
        dead_band=config.safety.dead_band,
        safety_margin=config.safety.margin,
        safety_log_std=config.safety.log_std,
        seed=config.seed,
        threads=RowThreads(workers),
        exploration=exploration,
    )


def _build_exploration(config: Config) -> Exploration | None:
    """How contexts differ between worlds; what informed tasks are told is in units of all training tasks."""
    if config.exploration.std == 0:
        return None
    names = config.tasks.hidden_names() if config.exploration.informed > 0 else ()
    tasks = split_tasks(config.tasks, "train", cost_limit=config.inner.cost_limit)
    return Exploration.of(tasks, names, size=config.policy.context, **vars(config.exploration))


def _build_estimator(config: Config, env: TaskEnv, *, told: int) -> AdvantageEstimator:
    """The policy and its critics with their first weights; V_r reads `told` numbers more, and V_C the time left."""
    observation_size, action_size = env.observation_spec["observation"].shape[-1], env.action_spec.shape[-1]
    actor = _build_actor(config, observation_size, action_size)
    reward_critic, safety_critic = (
        ValueNetwork(size, hidden=config.critic.hidden, generator=derive_generator(config.seed, name))
        for name, size in (("reward_critic", observation_size + told), ("safety_critic", observation_size + 1))
    )
    return AdvantageEstimator(
        actor,
        reward_critic if config.critic.shared_reward else NoValue(),
        safety_critic,
        gamma=config.critic.gamma,
        cost_gamma=config.critic.cost_gamma,
        lmbda=config.critic.gae_lambda,
        ridge=config.critic.ridge,
        horizon=env.horizon,
        limit_discount=config.inner.cost_limit_discount,
        safety_by_critic=config.safety.critic,
        told=told,
    )


def _build_actor(config: Config, observation_size: int, action_size: int) -> Actor:
    policy = config.policy
    if policy.actor == GAUSSIAN:
        return GaussianActor(
            observation_size,
            action_size,
            hidden=policy.hidden,
            init_log_std=policy.init_log_std,
            generator=derive_generator(config.seed, "actor"),
            context_size=policy.context,
        )
    seed = derive_seed(config.seed, "actor")
    actor = make_own_actor(policy.actor, observation_size, action_size, options=policy.options, seed=seed)
    region = getattr(config.inner, "trust_region", None)
    if region is not None:
        actor.mask(region.parameters)  # refused here if there is no such part, before anything is written
    return actor


@contextmanager
def _torch_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def build_datamodule(config: Config, *, measured: str = "test") -> TaskDataModule:
    """The data module that serves batches of tasks; a meta-test is given those of the split `measured`."""
    return TaskDataModule(
        config.tasks,
        tasks_per_batch=config.train.tasks_per_batch,
        cost_limit=config.inner.cost_limit,
        seed=config.seed,
        measured=measured,
        distinct_tasks=config.train.distinct_tasks,
    )


def build_trainer(config: Config, folder: RunFolder) -> Trainer:
    """Lightning's Trainer with the loggers and callbacks of the run."""
    known = inspect.signature(Trainer).parameters
    for key in config.trainer:
        if key in DECIDED_ELSEWHERE:
            raise UserError(f"trainer.{key} cannot be set; it is decided by {DECIDED_ELSEWHERE[key]}.")
        if key not in known:
            hint = did_you_mean(key, known, prefix="trainer.")
            raise UserError(f"Lightning's Trainer has no argument {key}, so there is no key trainer.{key}.{hint}")
    accelerator = choose_accelerator(**config.trainer)
    strategy = choose_strategy(accelerator, **config.trainer)
    defaults = {"log_every_n_steps": 1, "num_sanity_val_steps": 0, "enable_model_summary": False}
    given = {key: value for key, value in config.trainer.items() if key != "callbacks"}
    wandb = _wandb_logger(config, folder)
    further = further_loggers(config.logger.others, tensorboard=config.logger.tensorboard, folder=folder.path)
    own = make_parts("trainer.callbacks", config.trainer.get("callbacks"), Callback)
    try:
        trainer = Trainer(
            **{**defaults, **given, "accelerator": accelerator, "strategy": strategy},
            use_distributed_sampler=False,
            max_epochs=config.train.meta_iterations,
            enable_progress_bar=not config.quiet,  # the bar is MetaProgress, which Lightning finds among the callbacks
            check_val_every_n_epoch=config.train.validate_every,
            default_root_dir=folder.path,
            logger=[*([wandb] if wandb else []), *further] or False,
            plugins=[AtomicCheckpointIO()],
            callbacks=[*_callbacks(config, folder, wandb=wandb is not None), *own],
        )
    except (TypeError, ValueError, AttributeError, RuntimeError, MisconfigurationException) as error:
        raise UserError(f"Lightning's Trainer refuses the section trainer, or where it runs: {error}") from None
    if TorchElasticEnvironment.detect() and int(os.environ["WORLD_SIZE"]) != trainer.world_size:
        raise UserError(
            f"torchrun has started {os.environ['WORLD_SIZE']} processes, but trainer.devices times trainer.num_nodes "
            f"is {trainer.world_size}: set the first to the processes of a machine, the second to the machines."
        )
    return trainer


def find_ranks(trainer: Trainer) -> Ranks:
    """The rank of this process, and how many processes the trainer will have."""
    return Ranks(rank=trainer.global_rank, size=trainer.world_size, local=trainer.num_devices)


def _callbacks(config: Config, folder: RunFolder, *, wandb: bool) -> list[Callback]:
    """All callbacks, in the order in which Lightning must run them.

    First Throughput, which measures time, and LastValidation; then the learners (critics and eta); then Safeguard,
    which undoes what the learners and the meta-step did if a number is not finite; then the callbacks that
    watch and record.
    """
    critic = config.critic
    fit = {name: getattr(critic, name) for name in ("lr", "passes", "minibatch", "samples")}
    reward, safety = [RewardCritic(**fit)], [SafetyCritic(**fit)]
    eta_adapts = config.safety.eta_lr > 0 and config.outer.safety_term
    safety_ascent = Eta(lr=config.safety.eta_lr, high=config.safety.eta_max, predicted=config.safety.critic)
    eta = [safety_ascent] if eta_adapts else []
    checkpoint = LastCheckpoint(
        dirpath=folder.checkpoints,
        filename=folder.last_checkpoint.stem,
        save_on_train_epoch_end=True,  # after every meta-iteration: saving takes milliseconds, so nothing gets lost
        enable_version_counter=False,
    )
    curves = LearningCurves(folder.metrics, folder.learning_curves, cost_limit=config.inner.cost_limit)
    progress = [] if config.quiet else [MetaProgress()]
    health = Health(eta_follows_critic=eta_adapts and config.safety.critic)
    best = BestCheckpoint(folder.last_checkpoint, folder.best_checkpoint)
    tail: list[Callback] = [health, MetricsCSV(folder.metrics), *progress, curves, GracefulStop(), checkpoint, best]
    learners: list[Callback] = [*(reward if critic.shared_reward else []), *safety, *eta]
    safeguard = Safeguard(learners, max_dropped=config.train.max_dropped, checkpoint=folder.last_checkpoint)
    logged = [WandbMetrics(folder.learning_curves)] if wandb else []
    return [Throughput(), LastValidation(), *learners, safeguard, *tail, *logged]


def _wandb_logger(config: Config, folder: RunFolder) -> WandbLogger | None:
    mode = config.logger.wandb
    if mode == "disabled":
        return None
    offline = mode == "offline" or (mode == "auto" and not has_wandb_key())
    if mode == "online":
        require_wandb_key("logger.wandb is online")
    set_up_wandb(offline=offline)
    return PatientWandbLogger(
        entity=config.logger.entity,
        project=config.logger.project,
        group=config.logger.group,
        id=config.logger.id or f"{config.exp}-{config.run.id}",
        name=f"{config.exp}-{config.run.id}",
        save_dir=folder.path,
        offline=offline,
    )
