from dataclasses import replace

import pytest
import torch
from tensordict import TensorDict
from torchrl.envs.utils import check_env_specs

from cmaml_pl.envs.nav2d import COSTLY, HAZARD_RADIUS, HAZARDS, MAX_STEP, RAYS, Nav2DEnv, hazard_lidar, place_hazards
from cmaml_pl.errors import UserError
from cmaml_pl.tasks.base import split_tasks
from cmaml_pl.tasks.nav2d import Nav2DFamily


@pytest.fixture
def tasks():
    return split_tasks(Nav2DFamily(), "train", cost_limit=2.0)


def make_env(tasks, num_envs=4, horizon=50):
    env = Nav2DEnv(len(tasks), num_envs, horizon=horizon)
    env.set_tasks(tasks)
    env.set_seed(0)
    return env


def goals(tasks):
    return torch.tensor([[task.parameters["goal_x"], task.parameters["goal_y"]] for task in tasks])


def test_it_is_a_torchrl_environment(tasks):
    with torch.random.fork_rng():
        check_env_specs(make_env(tasks[:3]))


def test_it_asks_for_tasks_before_a_reset():
    with pytest.raises(RuntimeError, match="set_tasks"):
        Nav2DEnv(2, 2, horizon=5).reset()


def test_only_what_a_task_has_can_be_revealed(tasks):
    with pytest.raises(UserError, match="has no 'mass' to reveal; it has goal_x, goal_y, limit"):
        Nav2DEnv(2, 2, horizon=5, reveal=("mass",)).set_tasks(tasks[:2])


def test_an_oracles_environment_is_a_torchrl_environment(tasks):
    env = Nav2DEnv(3, 4, horizon=50, reveal=("goal_x", "goal_y"))
    env.set_tasks(tasks[:3])
    with torch.random.fork_rng():
        check_env_specs(env)


def steer(env, direction):
    """Roll out with actions `direction(position)`, (tasks, envs, 2)."""
    return env.rollout(env.horizon, policy=lambda td: td.set("action", direction(td["observation"][..., :2])))


def test_the_return_is_the_distance_gained(tasks):
    env = make_env(tasks[:5])
    goal = goals(tasks[:5])[:, None]
    rollout = steer(env, lambda position: torch.ones_like(position))
    start, end = rollout["observation"][:, :, 0, :2], rollout["next", "observation"][:, :, -1, :2]
    gained = (goal - start).norm(dim=-1) - (goal - end).norm(dim=-1)
    torch.testing.assert_close(rollout["next", "reward"].sum(dim=(2, 3)), gained, rtol=1e-4, atol=1e-5)


def test_the_optimum_without_costs_is_to_go_straight(tasks):
    env = make_env(tasks[:20])
    goal = goals(tasks[:20])[:, None]
    rollout = steer(env, lambda position: (goal - position) / MAX_STEP)
    total = rollout["next", "reward"].sum(dim=(2, 3))
    start = (goal - rollout["observation"][:, :, 0, :2]).norm(dim=-1)
    torch.testing.assert_close(total, start, rtol=1e-4, atol=1e-4)  # no more can be gained


def test_on_most_tasks_the_straight_way_costs_more_than_the_limit(tasks):
    env = make_env(tasks, num_envs=1)
    goal = goals(tasks)[:, None]
    cost = steer(env, lambda position: (goal - position) / MAX_STEP)["next", "cost"].sum(dim=(1, 2, 3))
    share = (cost > 3.0).float().mean()
    assert 0.5 < share < 0.8


def test_every_task_can_be_solved_within_its_limit(tasks):
    """Of all first legs of 1.25 in 64 directions, then around the outside, one reaches the goal at a cost of 1."""
    goal = goals(tasks)
    angle = torch.arange(64) * (2 * torch.pi / 64)
    leg = torch.stack([angle.cos(), angle.sin()], dim=-1)  # where the way through the ring of hazards is tried
    legs = leg * torch.arange(0.05, 1.25, MAX_STEP)[:, None, None]
    free = torch.stack(
        [
            ((legs[:, :, None] - place_hazards(task.layout_seed)).norm(dim=-1) < HAZARD_RADIUS).any(-1).sum(0) <= 1
            for task in tasks
        ]
    )  # (tasks, 64): directions that cross the ring at a cost of at most 1
    turn = (angle - torch.atan2(goal[:, 1], goal[:, 0])[:, None] + torch.pi) % (2 * torch.pi) - torch.pi
    steps = 1.25 * (1 + turn.abs()) / MAX_STEP  # out, then along the circle of radius 1.25
    assert (free & (steps <= 50)).any(dim=1).all()


def test_hazards_do_not_give_the_goal_away(tasks):
    """The angle between the goal and the nearest hazard is spread as chance would have it."""
    goal_angle = torch.atan2(*goals(tasks).flip(-1).unbind(-1))
    hazards = torch.stack([place_hazards(task.layout_seed) for task in tasks])
    hazard_angle = torch.atan2(hazards[..., 1], hazards[..., 0])
    gap = 2 * torch.pi / HAZARDS
    phase = ((goal_angle[:, None] - hazard_angle + gap / 2) % gap) / gap  # uniform in [0, 1) if independent
    resultant = torch.exp(2j * torch.pi * phase[:, 0]).mean().abs()
    assert resultant < 3 / len(tasks) ** 0.5  # Rayleigh's test


def test_hazards_stay_where_they_are_on_every_reset(tasks):
    env = make_env(tasks[:3], horizon=5)
    before = env.positions()["hazards"].copy()
    first = env.reset()["observation"]
    env.rollout(12, break_when_any_done=False, policy=lambda td: td.set("action", torch.zeros(3, 4, 2)))
    assert (env.positions()["hazards"] == before).all()
    env.set_seed(0)
    assert torch.equal(env.reset()["observation"], first)


def test_the_time_limit_truncates_and_never_terminates(tasks):
    env = make_env(tasks[:2], horizon=7)
    rollout = env.rollout(20, policy=lambda td: td.set("action", torch.zeros(2, 4, 2)))
    assert rollout.shape[-1] == 7
    assert rollout["next", "truncated"][:, :, -1].all()
    assert not rollout["next", "terminated"].any()


def test_a_partial_reset_leaves_the_other_worlds_where_they_are(tasks):
    env = make_env(tasks[:2], horizon=9)
    env.rollout(4, policy=lambda td: td.set("action", torch.ones(2, 4, 2)))
    before = env.positions()["agent"].copy()
    chosen = torch.zeros(2, 4, 1, dtype=torch.bool)
    chosen[0, 1] = True
    env.reset(TensorDict({"_reset": chosen}, (2, 4)))
    changed = (env.positions()["agent"] != before).any(axis=(2, 3))
    assert (changed == chosen[..., 0].numpy()).all()


def test_lidar_sees_the_nearest_edge_in_each_direction():
    hazards = torch.tensor([[[0.8, 0.0], [0.0, 0.7], [-2.0, -2.0]]])
    lidar = hazard_lidar(torch.zeros(1, 1, 2), hazards)[0, 0]
    assert lidar.shape == (RAYS,)
    torch.testing.assert_close(lidar[0], torch.tensor(1 - (0.8 - HAZARD_RADIUS)))
    torch.testing.assert_close(lidar[RAYS // 4], torch.tensor(1 - (0.7 - HAZARD_RADIUS)))
    assert lidar[RAYS // 2] == 0.0  # nothing to the left
    assert (hazard_lidar(torch.tensor([[[0.8, 0.1]]]), hazards)[0, 0] == 1.0).all()  # inside


def test_cost_is_one_in_a_hazard_and_speed_is_limited(tasks):
    env = make_env(tasks[:1], num_envs=1, horizon=50)
    hazard = place_hazards(tasks[0].layout_seed)[0]
    rollout = steer(env, lambda position: 100 * (hazard - position))
    moved = (rollout["next", "observation"][..., :2] - rollout["observation"][..., :2]).norm(dim=-1)
    assert moved.max() <= MAX_STEP + 1e-6
    assert rollout["next", "cost"][0, 0, -1] == 1.0
    assert rollout["next", "cost"][0, 0, 0] == 0.0


def test_the_degree_of_conflict_is_how_often_the_other_hazard_costs_and_changes_nothing_else(tasks):
    def conflicting(degree):
        return split_tasks(Nav2DFamily(conflict=degree), "train", cost_limit=2.0)

    costly = {degree: [task.parameters[COSTLY] for task in conflicting(degree)] for degree in (0.0, 0.5, 1.0)}
    assert set(costly[0.0]) == {0.0}
    assert sum(costly[0.5]) / len(tasks) == pytest.approx(0.25, abs=0.04)
    assert sum(costly[1.0]) / len(tasks) == pytest.approx(0.5, abs=0.05)
    assert all(half <= whole for half, whole in zip(costly[0.5], costly[1.0], strict=True))
    for task, plain in zip(conflicting(1.0), tasks, strict=True):
        others = {name: value for name, value in task.parameters.items() if name != COSTLY}
        assert replace(task, parameters=others) == plain


def test_what_one_task_must_go_around_is_free_in_another_and_only_the_cost_tells(tasks):
    first, second = (replace(tasks[0], parameters={**tasks[0].parameters, COSTLY: float(i)}) for i in (0, 1))
    env = Nav2DEnv(2, 3, horizon=50, one_costs=True)
    env.set_tasks([first, second])
    with torch.random.fork_rng():
        check_env_specs(env)
    hazards = place_hazards(tasks[0].layout_seed)
    for i in range(HAZARDS):
        env.set_seed(0)
        rollout = steer(env, lambda position, i=i: hazards[i] - position)
        cost, seen = rollout["next", "cost"], rollout["next", "observation"]
        assert cost[i].sum() > 30
        assert cost[1 - i].sum() == 0
        assert seen.shape[-1] == 2 + HAZARDS * RAYS
        lidars = [hazard_lidar(seen[:, :, -1, :2], hazards[None, j, None].expand(2, 1, 2)) for j in range(HAZARDS)]
        torch.testing.assert_close(seen[:, :, -1, 2:], torch.cat(lidars, dim=-1))
    assert list(env.radii) == ["hazards", "free hazards"]
    placed = {name: torch.as_tensor(xy[:, 0, 0]).float() for name, xy in env.positions().items()}
    assert torch.equal(placed["hazards"], hazards)
    assert torch.equal(placed["free hazards"], hazards.flip(0))
