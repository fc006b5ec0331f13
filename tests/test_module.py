"""The outer update."""

from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from tests.helpers import set_vector

from cmaml_callbacks import SafetyCritic
from cmaml_pl.assembly import build_datamodule, open_module
from cmaml_pl.config import load
from cmaml_pl.data import MetaBatchSampler
from cmaml_pl.outer.methods import FOMAML
from cmaml_pl.registry import INNER_METHODS

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


class NoGradient(FOMAML):
    """An outer method that wants nothing, so that the safety term is all that acts."""

    def gradient(self, actor, theta, adapted, multiplier, post):
        return torch.zeros_like(theta)


def test_every_meta_iteration_draws_tasks_of_its_own_from_the_seed():
    config = load("nav2d", TINY)
    with open_module(config) as module:
        recorder = fit(module, config, iterations=3)
    for epoch, tasks in enumerate(recorder.tasks):
        sampler = MetaBatchSampler(config.tasks.train, 4, seed=0)
        sampler.set_epoch(epoch)
        assert tasks == list(sampler)
    assert len({tuple(tasks) for tasks in recorder.tasks}) == 3


def test_the_meta_step_is_adams_step_on_the_meta_gradient():
    config = load("nav2d", [*TINY, "outer.lr=0.01", "outer.log_std=true"])
    with open_module(config) as module:
        recorder = fit(module, config, iterations=1)
    move = recorder.end - recorder.theta[0]
    # Adam's first step is lr times the sign of the gradient
    moved = move[move != 0]
    assert moved.abs().max() <= 0.01 * 1.001
    assert moved.abs().quantile(0.02) > 0.01 * 0.99  # all but the tiniest gradients, beside which Adam's epsilon counts
    assert len(moved) > 0.9 * len(move)


def test_several_passes_are_several_steps():
    config = load("nav2d", [*TINY, "outer.lr=0.01", "outer.passes=3"])
    with open_module(config) as module:
        recorder = fit(module, config, iterations=1)
    largest = (recorder.end - recorder.theta[0]).abs().max()
    assert 0.02 < largest < 0.031


def costly_log_prob(module, pre):
    """Mean log-probability that the current policy gives to the actions that cost more than others."""
    data = pre.data
    loc, scale = module.actor.stacked(module.actor.vector().expand(len(data.action), -1), data.features)
    log_prob = torch.distributions.Normal(loc, scale).log_prob(data.action).sum(-1)
    return log_prob[module.estimator.safety_advantage(pre.rollout) > 0].mean()


@pytest.mark.parametrize(("eta", "moves"), [(5.0, True), (0.0, False)])
def test_the_safety_term_makes_costly_actions_rarer_and_eta_zero_turns_it_off(eta, moves):
    config = load("nav2d", [*TINY, f"safety.eta={eta}", "inner.cost_limit=0"])
    config = replace(config, outer=NoGradient(lr=1e-3))
    with open_module(config) as module:
        module.actor.normaliser.update = lambda observation: None  # so that before and after see the same states
        tasks = build_datamodule(config).splits["train"][:4]
        module.pre = module.adapt(tasks, 1, ("test",))[0]
        critic = SafetyCritic(lr=1e-2, passes=50, minibatch=128)
        critic.on_fit_start(None, module)
        critic.fit(module, iteration=0)
        recorder = fit(module, config, iterations=1)
        after = costly_log_prob(module, module.pre)
        set_vector(module.actor, recorder.theta[0])
        before = costly_log_prob(module, module.pre)
    assert (after < before - 1e-4) == moves
    assert torch.equal(recorder.end, recorder.theta[0]) != moves


def test_in_the_dead_band_the_safety_term_rests():
    config = load("nav2d", [*TINY, "safety.eta=1.0", "safety.dead_band=true"])
    with open_module(config) as module:
        tasks = build_datamodule(config).splits["train"][:4]
        data = module.adapt(tasks, 1, ("test",))[0].data
        over = replace(data, episode_cost=torch.full((4,), 3.5), cost_limit=torch.full((4,), 3.0))
        within = replace(data, episode_cost=torch.full((4,), 3.0), cost_limit=torch.full((4,), 3.0))
        assert module.safety_weight(over) == 0.5
        assert module.safety_weight(within) == 0.0


def test_adapting_leaves_the_meta_policy_alone_and_lambda_carries_a_share():
    config = load("nav2d", [*TINY, "inner.cost_limit=0", "inner.multiplier_carry=0.25", "inner.multiplier_lr=1"])
    with open_module(config) as module:
        tasks = build_datamodule(config).splits["train"][:4]
        before = module.actor.vector()
        stages = module.adapt(tasks, 2, ("test",))
        assert len(stages) == 3
        assert (stages[0].data.episode_steps == 30).all()
        assert torch.equal(module.actor.vector(), before)
        assert torch.equal(stages[0].theta, before.expand(4, -1))
        assert not torch.equal(stages[1].theta[0], stages[1].theta[1])
        start = float(module.multiplier)
        recorder = fit(module, config, iterations=1)
        ended = recorder.metrics[0]["lambda/mean"]
        assert ended > start
        assert float(module.multiplier) == pytest.approx(start + 0.25 * (ended - start), rel=1e-5)


@pytest.mark.parametrize("name", sorted(INNER_METHODS))
def test_every_inner_method_trains_and_carries_what_it_says(name):
    # a limit of 0, so that the multipliers have work
    config = load("nav2d", [*TINY, f"inner.method={name}", "inner.cost_limit=0"])
    with open_module(config) as module:
        recorder = fit(module, config, iterations=2)
        metrics = recorder.metrics[-1]
        assert all(torch.tensor(value).isfinite() for value in metrics.values())
        assert metrics["inner/kl"] > 0
        assert 0 <= metrics["inner/infeasible_steps"] <= 1
        assert (metrics["lambda/mean"] > 0) == (name != "trpo")
        carries = config.inner.multiplier_carry > 0
        assert (float(module.multiplier) != pytest.approx(config.inner.multiplier_init)) == carries
