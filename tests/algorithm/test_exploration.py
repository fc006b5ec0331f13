"""Exploration by the context."""

import math
from dataclasses import replace

import pytest
import torch
from tensordict import TensorDict
from tests.helpers import make_actor

from cmaml_pl.algorithm.exploration import Exploration
from cmaml_pl.assembly import open_module
from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.distributed.ranks import Ranks
from cmaml_pl.inner.base import mean_kl
from cmaml_pl.tasks.base import split_tasks
from cmaml_pl.tasks.nav2d import Nav2DFamily


def exploration(**changes) -> Exploration:
    mean, spread = torch.tensor([0.0, 1.0]).double(), torch.tensor([2.0, 0.5]).double()
    names = ("goal_x", "goal_y")
    return replace(Exploration(1.0, 0.5, 1.0, 2, 0.5, names, mean, spread), **changes)


def played(offsets: torch.Tensor, reward: torch.Tensor, cost: torch.Tensor) -> TensorDict:
    """A rollout of two steps, whose worlds get what they get in the second one, (tasks, envs)."""
    steps = torch.tensor([0.0, 1.0])[:, None]
    done = (steps > 0).expand(*reward.shape, 2, 1)
    after = {"reward": reward[..., None, None] * steps, "cost": cost[..., None, None] * steps, "done": done}
    wide = offsets[:, :, None].expand(*done.shape[:3], -1)
    return TensorDict({"offset": wide, "next": after}, [*done.shape[:3]])


def test_offsets_of_the_context_do_what_another_context_does():
    actor = make_actor(context_size=2)
    generator = torch.Generator().manual_seed(0)
    theta, features = actor.vector().repeat(3, 1), torch.randn(3, 7, 3, generator=generator)
    offsets = torch.randn(3, 1, 2, generator=generator)
    shifted = theta.clone()
    shifted[:, actor.mask("context").bool()] += offsets[:, 0]
    found = actor.stacked(theta, torch.cat([features, offsets.expand(-1, 7, -1)], dim=-1))
    expected = actor.stacked(shifted, features)
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other)
    assert not torch.equal(found[0], actor.stacked(theta, features)[0])


def test_where_the_return_is_linear_in_the_context_the_step_is_that_of_a_tilted_normal_distribution():
    """Of contexts from N(0, s^2), tilted by exp(a o / T), the mean is s^2 a / T."""
    generator = torch.Generator().manual_seed(0)
    offsets, slope = 0.5 * torch.randn(2, 4000, 2, generator=generator), torch.tensor([[3.0, 0.0], [0.0, -1.0]])
    rewards = 7.0 + (offsets * slope[:, None]).sum(dim=2)
    step = exploration().context_step(played(offsets, rewards, torch.zeros(2, 4000)), torch.zeros(2), discount=1.0)
    # the unit of a return is the larger of a task's deviation, 1.5 and 0.5, and the root of the mean square of both
    unit = torch.tensor([1.5, math.sqrt((1.5**2 + 0.5**2) / 2)])
    torch.testing.assert_close(step, 0.5**2 * slope / unit[:, None], rtol=0, atol=0.05)


def test_at_a_high_temperature_the_step_is_the_natural_gradient():
    generator = torch.Generator().manual_seed(0)
    offsets, worth = torch.randn(1, 8, 2, generator=generator), torch.randn(1, 8, generator=generator)
    rollout = played(offsets, worth, torch.zeros(1, 8))
    step = exploration(temperature=1e3).context_step(rollout, torch.zeros(1), discount=1.0)
    unit = (worth - worth.mean()) / worth.std(correction=0)
    covariance = ((offsets - offsets.mean(dim=1, keepdim=True)) * unit[..., None]).mean(dim=1)
    torch.testing.assert_close(step, covariance / 1e3, rtol=0.01, atol=0)


def test_at_a_low_temperature_the_context_goes_to_that_of_the_best_world():
    offsets, worth = torch.tensor([[[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]]]), torch.tensor([[1.0, 0, 3, 2]])
    rollout = played(offsets, worth, torch.zeros(1, 4))
    step = exploration(temperature=1e-3).context_step(rollout, torch.zeros(1), discount=1.0)
    torch.testing.assert_close(step, offsets[:, 2])


def test_cost_counts_as_much_as_lambda_says_and_worlds_that_are_alike_move_nothing():
    offsets = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]], [[0.3, 0.3], [0.3, 0.3]]])
    pays, costs = torch.tensor([[1.0, -1.0], [1.0, -1.0]]), torch.tensor([[5.0, 0.0], [5.0, 0.0]])
    rollout = played(offsets, pays, costs)
    for weight, worth in ((0.0, 1.0), (1.0, 0.0), (3.0, -0.5)):
        step = exploration().context_step(rollout, torch.full((2,), weight), discount=1.0)
        # of two worlds at 1 and -1 that are worth G and -G, the shares are 1 / (1 + exp(-+2 G))
        torch.testing.assert_close(step, torch.tensor([[math.tanh(worth), 0.0], [0.0, 0.0]]))
    discounted = exploration().context_step(rollout, torch.full((2,), 3.0), discount=0.5)
    torch.testing.assert_close(discounted, torch.tensor([[-math.tanh(0.5), 0.0], [0.0, 0.0]]))  # all costs are halved


def test_the_more_alike_the_worlds_of_a_task_do_the_less_noise_moves_its_context():
    generator = torch.Generator().manual_seed(0)
    offsets, noise = torch.randn(400, 8, 2, generator=generator), torch.randn(400, 8, generator=generator)
    noise[:200] *= 0.01
    step = exploration(temperature=0.1).context_step(
        played(offsets, noise, torch.zeros(400, 8)), torch.zeros(400), discount=1.0
    )
    quiet, loud = step[:200].square().mean().sqrt(), step[200:].square().mean().sqrt()
    assert quiet < 0.1 * loud


def test_the_first_rows_of_a_batch_are_informed_on_all_ranks():
    told = exploration(informed=0.3).is_informed(slice(0, 8), 8)
    assert told.tolist() == [True, True, *[False] * 6]
    parts = [exploration(informed=0.3).is_informed(Ranks(rank=rank, size=2).part(4), 8) for rank in range(2)]
    assert torch.equal(torch.cat(parts), told)


def test_they_are_told_what_is_hidden_in_units_of_the_training_tasks():
    tasks = split_tasks(Nav2DFamily(train=8), "train", cost_limit=3.0)
    keys = {"std": 1.0, "decay": 0.5, "temperature": 0.2, "informed": 0.5}
    told = Exploration.of(tasks, ("goal_x", "goal_y"), size=3, **keys).told(tasks)
    torch.testing.assert_close(told[:, :2].mean(dim=0), torch.zeros(2))
    torch.testing.assert_close(told[:, :2].square().mean(dim=0), torch.ones(2))
    goals = torch.tensor([[task.parameters["goal_x"], task.parameters["goal_y"]] for task in tasks])
    slope = (told[1, :2] - told[0, :2]) / (goals[1] - goals[0])
    torch.testing.assert_close(told[2, :2] - told[0, :2], slope * (goals[2] - goals[0]))
    assert not told[:, 2].any()
    alike = [replace(task, parameters={"goal_x": 2.0}) for task in tasks]
    assert not Exploration.of(alike, ("goal_x",), size=1, **keys).told(alike).any()


def follow_the_context(actor) -> torch.Tensor:
    """Parameters that drive from where the point is (the first two of its observations) to where the context says."""
    theta: torch.Tensor = torch.zeros_like(actor.vector())
    small = 0.01
    theta[actor.log_std_slice] = -1.0
    shapes = {name: parameter.shape for name, parameter in actor.named_parameters()}
    rows = dict(zip(shapes, theta.split([math.prod(shape) for shape in shapes.values()]), strict=True))
    first, last = rows["mean.0.weight"].view(shapes["mean.0.weight"]), rows["mean.2.weight"].view(-1, 2)
    for i in range(2):
        first[i, i], first[i, i - 2] = -small, small  # tanh is linear there
        last[i, i] = 5.0 / small
    return theta


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_policy_that_follows_its_context_finds_hidden_goals_by_the_step_of_the_context_alone(seed):
    """The actions' own gradient is switched off: `max_kl` is tiny."""
    keys = [f"seed={seed}", "policy.context=2", "policy.hidden=[2]", "exploration.std=1"]
    free = ["inner.cost_limit=100", "inner.trust_region.max_kl=1e-9", "tasks.validation=20"]
    config = load_experiment("nav2d", [*keys, *free])
    tasks = split_tasks(config.tasks, "validation", cost_limit=3.0)
    with open_module(config) as module:
        theta = follow_the_context(module.actor)
        found = [stage.data.episode_return.mean() for stage in module.adapt(tasks, 4, ("a test",), theta=theta)]
        module.exploration = replace(module.exploration, temperature=1e9)
        stuck = [stage.data.episode_return.mean() for stage in module.adapt(tasks, 4, ("a test",), theta=theta)]
    assert found[0] < 0.0
    assert found[-1] > 0.7  # of at most 1.25
    assert stuck[-1] < 0.1


EXPLORES = ["policy.context=2", "exploration.std=1", "exploration.informed=0.5"]


def test_the_data_of_the_updates_say_with_which_contexts_they_were_played():
    config = load_experiment("nav2d", [*EXPLORES, "exploration.decay=0.25", "inner.trust_region.max_kl=0.01"])
    tasks = split_tasks(config.tasks, "train", cost_limit=3.0)[:20]
    with open_module(config) as module:
        told = module.exploration.told(tasks)
        stages = module.adapt(tasks, 1, ("a test",), learning=True)
        for k, stage in enumerate(stages):
            found = module.actor.stacked(stage.theta, stage.data.features)
            torch.testing.assert_close(found, (stage.data.loc, stage.data.scale), rtol=1e-4, atol=1e-5)
            offsets = stage.data.features[..., -2:].unflatten(1, (16, 50))
            assert torch.equal(offsets[:10], told[:10, None, None].expand(-1, 16, 50, -1))
            assert (offsets[10:] == offsets[10:, :, :1]).all()
            assert float(offsets[10:].std()) == pytest.approx(0.25**k, rel=0.15)
            assert stage.informed.tolist() == [True] * 10 + [False] * 10
            assert len(stage.uninformed().theta) == 10
            hint = module.estimator.reward_transitions(stage.rollout).features[..., -3:]
            known = torch.cat([told, torch.ones(20, 1)], dim=1)[:10, None, None]
            assert torch.equal(hint[:10], known.expand_as(hint[:10]))
            assert not hint[10:].any()
            played = stage.rollout.exclude("informed")  # which is made where the updates are
            assert all(value.is_contiguous() for value in played.values())  # so that it can be pinned
        moved = (stages[1].theta - stages[0].theta)[:, module.actor.mask("context").bool()]
        true_kl = mean_kl(module.actor, stages[1].theta, stages[0].data)
        torch.testing.assert_close(stages[1].step.kl, true_kl)
        assert moved[10:].abs().min() > 0


def test_nothing_is_told_in_validation_and_in_the_meta_test(monkeypatch):
    config = load_experiment("nav2d", EXPLORES)
    tasks = split_tasks(config.tasks, "test", cost_limit=3.0)[:20]
    with open_module(config) as module:
        module.adapt(tasks, 1, ("a test",), learning=True)  # in which they are
        monkeypatch.setattr(Exploration, "told", lambda *_: pytest.fail("a task was told"))
        module.log_dict = lambda *_, **__: None
        module.validation_step(tasks, 0)
        stages = module.test_step(tasks, 0)["stages"]
        assert all(stage.informed is None for stage in stages)
        assert not module.estimator.reward_transitions(stages[0].rollout).features[..., -3:].any()


@pytest.mark.parametrize("method", ["cpo", "p3o", "focops", "safemeta"])
def test_a_task_whose_numbers_are_not_finite_keeps_its_context(method, monkeypatch):
    config = load_experiment("nav2d", [*EXPLORES, f"inner.method={method}", "train.tasks_per_batch=3"])
    tasks = split_tasks(config.tasks, "train", cost_limit=3.0)[:3]
    with open_module(config) as module:
        collect = module.rollouts.collect

        def spoil(*args, **kwargs):
            batch = collect(*args, **kwargs)
            batch["next", "reward"][1] = math.nan
            return batch

        monkeypatch.setattr(module.rollouts, "collect", spoil)
        before, after = module.adapt(tasks, 1, ("a test",))
        moved = (after.theta - before.theta)[:, module.actor.mask("context").bool()].abs().sum(dim=1)
    assert moved[1] == 0
    assert moved[0] > 0
    assert moved[2] > 0


def test_tasks_that_share_one_policy_keep_one_context():
    config = load_experiment("nav2d", [*EXPLORES, "arm=pretrain"])
    tasks = split_tasks(config.tasks, "train", cost_limit=3.0)[:20]
    with open_module(config) as module:
        inner = module.outer.adaptation(module.inner)
        last = module.adapt(tasks, 2, ("a test",), inner=inner, learning=True)[-1]
    assert (last.theta == last.theta[0]).all()
