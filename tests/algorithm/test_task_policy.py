"""Adaptation to episodes that are played elsewhere."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from tests.algorithm.fitting import TINY

from cmaml_pl import Episode, TaskPolicy
from cmaml_pl.assembly import build_datamodule, open_module
from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.errors import UserError

ONE = [*TINY, "train.tasks_per_batch=1", "inner.steps=2", "inner.cost_limit=0.5"]


def episodes_of(rollout):
    """The episodes of a rollout [1, envs, time] whose worlds play one each."""
    return [
        Episode(
            torch.cat([row["observation"], row["next", "observation"][-1:]]),
            row["action"],
            row["next", "reward"][:, 0],
            row["next", "cost"][:, 0],
        )
        for row in rollout[0]
    ]


def episode(steps, *, cost=0.0, terminated=False, seed=0):
    rng = np.random.default_rng(seed)
    return Episode(
        rng.normal(size=(steps + 1, 18)), rng.normal(size=(steps, 2)), [1.0] * steps, [cost] * steps, terminated
    )


@pytest.mark.parametrize("overrides", [["inner.method=trpo_lag"], ["inner.method=cpo"], ["outer.radius_lr=0.3"]])
def test_it_takes_the_steps_of_the_meta_test(overrides):
    config = load_experiment("nav2d", [*ONE, *overrides])
    with open_module(config) as module:
        if module.step_lengths is not None:
            module.step_lengths = torch.tensor([1.5, 0.7])
        tasks = build_datamodule(config).splits["test"][:1]
        stages = module.adapt(tasks, 2, ("elsewhere",))
        policy = TaskPolicy(module, cost_limit=tasks[0].cost_limit)
        before = module.actor.vector()
        for now, then in pairwise(stages):
            told = policy.adapt(episodes_of(now.rollout))
            torch.testing.assert_close(policy.theta, then.theta[0], rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(policy.multiplier, then.multiplier[0], rtol=1e-4, atol=1e-6)
            assert told["return"] == pytest.approx(float(now.data.episode_return), rel=1e-5)
            assert told["cost"] == pytest.approx(float(now.data.episode_cost), rel=1e-5)
            assert told["kl"] == pytest.approx(float(then.step.kl), rel=1e-3) != 0
        assert torch.equal(module.actor.vector(), before)
    assert policy.steps == 2


def test_it_acts_as_the_policy_that_has_adapted():
    with open_module(load_experiment("nav2d", ONE)) as module, torch.no_grad():
        policy = TaskPolicy(module, cost_limit=1.0, seed=3)
        policy.theta = policy.theta + 0.1
        module.actor.load_vector(policy.theta)
        observation = np.linspace(-1.0, 1.0, 18)
        loc, scale = module.actor(torch.tensor(observation, dtype=torch.float32))
        np.testing.assert_allclose(policy.act(observation, noise=False), loc, rtol=1e-5)
        drawn = np.stack([policy.act(observation) for _ in range(4000)])
        np.testing.assert_allclose(drawn.mean(axis=0), loc, atol=0.1)
        np.testing.assert_allclose(drawn.std(axis=0), scale, rtol=0.1)
        again = TaskPolicy(module, cost_limit=1.0, seed=3)
        again.theta = policy.theta
        assert (np.stack([again.act(observation) for _ in range(2)]) == drawn[:2]).all()


def test_means_are_over_episodes_however_long_they_are():
    with open_module(load_experiment("nav2d", ONE)) as module:
        policy = TaskPolicy(module, cost_limit=1.0)
        short, long = episode(4, cost=1.0, terminated=True), episode(20, seed=1)
        told = policy.adapt([short, long, episode(7, seed=2)])
        assert told["return"] == pytest.approx((4 + 20 + 7) / 3)
        assert told["cost"] == pytest.approx(4 / 3)
        rows = policy._rollout([short, long])
        assert rows.shape == (1, 2, 20)
        # the short one ends for good, and is followed by the beginning of the other
        assert rows[0, 0]["next", "terminated"][:, 0].nonzero().tolist() == [[3]]
        np.testing.assert_allclose(rows[0, 0, 4:]["action"], np.asarray(long.actions, np.float32)[:16])


@pytest.mark.parametrize(
    ("message", "given"),
    [
        ("There are no episodes", []),
        ("episode 1 has 0 steps, but must have 1 to 30", [episode(3), episode(0)]),
        ("episode 0 has 31 steps", [episode(31)]),
        (
            r"episode 0 has actions of shape \(3, 1\), but they must have \(3, 2\)",
            [Episode(np.zeros((4, 18)), np.zeros((3, 1)), [0.0] * 3, [0.0] * 3)],
        ),
        (
            r"episode 0 has observations of shape \(3, 18\)",
            [Episode(np.zeros((3, 18)), np.zeros((3, 2)), [0.0] * 3, [0.0] * 3)],
        ),
        ("episode 0 has costs that are not finite", [episode(3, cost=np.nan)]),
    ],
)
def test_episodes_that_do_not_fit_are_told_and_change_nothing(message, given):
    with open_module(load_experiment("nav2d", ONE)) as module:
        policy = TaskPolicy(module, cost_limit=1.0)
        with pytest.raises(UserError, match=message):
            policy.adapt(given)
        assert torch.equal(policy.theta, module.deployed)
        assert policy.steps == 0


def test_a_policy_that_explores_by_the_context_is_refused():
    with (
        open_module(load_experiment("nav2d", [*ONE, "policy.context=2", "exploration.std=1"])) as module,
        pytest.raises(UserError, match="explores by the context"),
    ):
        TaskPolicy(module, cost_limit=1.0)
