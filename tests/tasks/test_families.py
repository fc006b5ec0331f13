import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import truncnorm

from cmaml_pl.assembly import build_datamodule, open_module
from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.configuration.registry import TASK_FAMILIES
from cmaml_pl.envs.locomotion_rules import Rules
from cmaml_pl.errors import UserError
from cmaml_pl.tasks.base import split_tasks
from cmaml_pl.tasks.constraint import ConstraintFamily
from cmaml_pl.tasks.dynamics import DynamicsFamily
from cmaml_pl.tasks.hidden_goal import HiddenGoalFamily
from cmaml_pl.tasks.layout import LayoutFamily
from cmaml_pl.tasks.ranges import draw
from cmaml_pl.tasks.target_direction import TargetDirectionFamily
from cmaml_pl.tasks.target_velocity import TargetVelocityFamily

SPLITS = ("train", "validation", "test")


def distance(task):
    return math.hypot(task.parameters["goal_x"], task.parameters["goal_y"])


def direction(task):
    return math.degrees(math.atan2(task.parameters["goal_y"], task.parameters["goal_x"]))


SETTINGS = {
    "gymnasium": {"parameters": {"m": [0.5, 2.0], "l": [0.5, 1.5]}, "outside_parameters": {"l": [0.4, 2.0]}},
    "torchrl": {
        "make": "examples.own_parts.point_mass:PointMass",
        "parameters": {"wind": [-0.3, 0.3]},
        "outside_parameters": {"wind": [-0.5, 0.6]},
    },
}
"""Of a family that has nothing to tell tasks apart by default."""


def heading(task):
    return math.degrees(math.atan2(task.parameters["direction_y"], task.parameters["direction_x"]))


RANGES = {
    "constraint": (lambda task: [task.cost_limit / 4.0], (0.5, 1.5), (0.2, 2.5)),
    "gymnasium": (lambda task: [task.parameters["l"]], (0.5, 1.5), (0.4, 2.0)),
    "dynamics": (lambda task: list(task.parameters.values()), (0.25, 1.75), (0.15, 2.25)),
    "hidden_body": (lambda task: list(task.parameters.values()), (0.5, 1.5), (0.25, 2.0)),
    "hidden_goal": (lambda task: [direction(task)], (-90, 90), (-135, 135)),
    "nav2d": (lambda task: [distance(task)], (1.2, 1.3), (1.2, 1.6)),
    "target_direction": (lambda task: [heading(task)], (-90, 90), (-180, 180)),
    "target_velocity": (lambda task: [task.parameters["target_velocity"]], (0, 2), (0, 3)),
    "torchrl": (lambda task: [task.parameters["wind"]], (-0.3, 0.3), (-0.5, 0.6)),
}
"""Of every family with a range: what is in it, that range by default, and the one beyond it."""


@pytest.fixture(params=sorted(TASK_FAMILIES))
def family(request):
    return TASK_FAMILIES[request.param](**SETTINGS.get(request.param, {}))


def test_splits_have_their_sizes_and_never_overlap(family):
    tasks = {split: split_tasks(family, split, cost_limit=3.0) for split in SPLITS}
    for split in SPLITS:
        assert len(tasks[split]) == getattr(family, split)
    for a, b in itertools.combinations(SPLITS, 2):
        assert not {t.id for t in tasks[a]} & {t.id for t in tasks[b]}
        assert not {t.layout_seed for t in tasks[a]} & {t.layout_seed for t in tasks[b]}


def test_a_task_is_the_same_whenever_it_is_asked_for(family):
    assert family.task(5, cost_limit=3.0) == family.task(5, cost_limit=3.0)
    assert family.task(5, cost_limit=3.0) != family.task(6, cost_limit=3.0)
    assert family.task(5, cost_limit=6.0).cost_limit == 2 * family.task(5, cost_limit=3.0).cost_limit > 0
    assert family.task(5, cost_limit=3.0).family == family.family


def test_every_family_runs_its_own_tasks(family):
    env = family.make_env(2, 2, horizon=5, workers=1)
    env.set_tasks(split_tasks(family, "train", cost_limit=3.0)[:2])
    env.set_seed(0)
    still = env.action_spec.zero()
    rollout = env.rollout(5, policy=lambda td: td.set("action", still.clone()))
    assert rollout.shape == (2, 2, 5)
    assert rollout["observation"].isfinite().all()
    env.close(raise_if_closed=False)


HIDDEN = {
    "constraint": ("cost_hazards", "cost_vases", "limit"),
    "dynamics": ("mass", "damping", "gear"),
    "gymnasium": ("m", "l"),
    "hidden_body": ("mass", "damping", "gear", "friction"),
    "hidden_goal": ("goal_x", "goal_y"),
    "layout": (),
    "nav2d": ("goal_x", "goal_y"),
    "target_direction": ("direction_x", "direction_y"),
    "target_velocity": ("target_velocity",),
    "torchrl": ("wind",),
}
"""What a policy does not see of a task and an oracle does."""


def roll_out(family, tasks):
    env = family.make_env(len(tasks), 2, horizon=6, workers=1)
    env.set_tasks(tasks)
    env.set_seed(0)
    generator = torch.Generator().manual_seed(0)
    actions = torch.randn(6, *env.action_spec.shape, generator=generator).unbind()
    steps = iter(actions)
    rollout = env.rollout(6, policy=lambda td: td.set("action", next(steps)))
    env.close(raise_if_closed=False)
    return rollout


@pytest.mark.parametrize("name", sorted(name for name in TASK_FAMILIES if HIDDEN[name]))
def test_an_oracle_sees_what_is_hidden_and_all_else_as_others_do(name):
    plain = TASK_FAMILIES[name](**SETTINGS.get(name, {}))
    oracle = dataclasses.replace(plain, observe_task=True)
    tasks = split_tasks(plain, "train", cost_limit=4.0)[:3]
    assert split_tasks(oracle, "train", cost_limit=4.0)[:3] == tasks
    seen, unseen = roll_out(oracle, tasks), roll_out(plain, tasks)
    size = unseen["observation"].shape[-1]
    assert seen["observation"].shape[-1] == size + len(HIDDEN[name])
    for before in ((), ("next",)):
        observation = seen[(*before, "observation")]
        assert torch.equal(observation[..., :size], unseen[(*before, "observation")])
        for task, rows in zip(tasks, observation[..., size:], strict=True):
            values = {**task.parameters, "limit": task.cost_limit / 4.0}
            expected = torch.tensor([values[key] for key in HIDDEN[name]], dtype=torch.float32)
            torch.testing.assert_close(rows, expected.expand_as(rows), rtol=1e-6, atol=0)
    assert torch.equal(seen["next", "reward"], unseen["next", "reward"])


def test_all_that_tells_tasks_of_a_family_apart_is_hidden_from_others(family):
    names, task = family.hidden_names(), family.task(0, cost_limit=3.0)
    assert names == HIDDEN[family.family]
    assert set(task.parameters) == set(names) - {"limit"}
    assert (task.limit_share == 1.0) != ("limit" in names)
    assert task.cost_limit == pytest.approx(3.0 * task.limit_share)


def test_where_nothing_is_hidden_there_is_no_oracle():
    with pytest.raises(UserError, match=r"tasks\.observe_task is true, but a task of the family layout has no hidden"):
        load_experiment("point_goal", ["arm=oracle"])


def test_limits_of_their_own_reach_the_updates():
    tiny = ["train.tasks_per_batch=3", "rollout.envs_per_task=1", "rollout.horizon=5", "inner.cost_limit=8"]
    config = load_experiment("constraint", tiny)
    tasks = build_datamodule(config).splits["train"][:3]
    assert len({task.cost_limit for task in tasks}) == 3
    with open_module(config) as module:
        for stage in module.adapt(tasks, 1, ("test",)):
            assert stage.data.cost_limit.tolist() == pytest.approx([task.cost_limit for task in tasks])


def test_a_group_that_cannot_cost_is_refused_by_name():
    with pytest.raises(UserError, match=r"tasks\.groups has 'vase', but what can cost in .* Did you mean vases\?"):
        ConstraintFamily(groups=["hazards", "vase"]).make_env(1, 1, horizon=5, workers=1)


def test_every_family_with_a_range_is_covered_here():
    ranged = {name for name, cls in TASK_FAMILIES.items() if "test_range" in {f.name for f in dataclasses.fields(cls)}}
    assert ranged == set(RANGES)


@pytest.mark.parametrize("name", sorted(RANGES))
def test_test_tasks_can_be_drawn_outside_the_range_of_all_others(name):
    measure, inside, outside = RANGES[name]
    sizes = {"train": 200, "validation": 30, "test": 200, **SETTINGS.get(name, {})}
    within = TASK_FAMILIES[name](**sizes)
    beyond = TASK_FAMILIES[name](**sizes, test_range="outside")
    for split in SPLITS:
        values = np.array([measure(task) for task in split_tasks(within, split, cost_limit=4.0)])
        assert (inside[0] <= values).all()
        assert (values <= inside[1]).all()
        assert values.min() < inside[0] + 0.1 * np.ptp(inside)
        assert values.max() > inside[1] - 0.1 * np.ptp(inside)
    for split in ("train", "validation"):
        assert split_tasks(beyond, split, cost_limit=4.0) == split_tasks(within, split, cost_limit=4.0)
    values = np.array([measure(task) for task in split_tasks(beyond, "test", cost_limit=4.0)])
    assert ((values <= inside[0]) | (values >= inside[1])).all()
    assert outside[0] <= values.min()
    assert values.max() <= outside[1]
    assert values.max() > outside[1] - 0.1 * np.ptp(outside)
    assert (values < inside[0]).any() == (outside[0] < inside[0])


def test_target_velocities_can_be_drawn_from_a_normal_distribution_within_the_range():
    family = TargetVelocityFamily(velocities=[0.4, 1.0], spread=0.2, train=4000)
    values = np.array([task.parameters["target_velocity"] for task in split_tasks(family, "train", cost_limit=1.0)])
    assert values.min() >= 0.4
    assert values.max() <= 1.0
    assert values.mean() == pytest.approx(0.7, abs=0.01)
    assert values.std() == pytest.approx(truncnorm(-1.5, 1.5, scale=0.2).std(), abs=0.005)


def test_a_single_velocity_is_a_range_as_well():
    (task,) = split_tasks(TargetVelocityFamily(velocities=[1.0, 1.0], spread=0.1, train=1), "train", cost_limit=1.0)
    assert task.parameters == {"target_velocity": pytest.approx(1.0)}


def test_without_tasks_outside_the_range_may_be_all_there_is():
    assert load_experiment("ant_direction", ["tasks.directions=[-180,180]"]).tasks.directions == [-180.0, 180.0]


def test_of_two_ways_both_are_equally_likely():
    family = TargetDirectionFamily(ways="two", train=1000)
    ways = np.array([list(task.parameters.values()) for task in split_tasks(family, "train", cost_limit=1.0)])
    assert set(ways[:, 0]) == {-1.0, 1.0}
    assert not ways[:, 1].any()
    assert abs(ways[:, 0].mean()) < 0.1


def test_a_family_hands_its_rules_to_the_environment():
    family = TargetVelocityFamily(control_weight=0.3, cost="control", cost_weight=0.7, lowest_head=0.4)
    env = family.make_env(1, 1, horizon=5, workers=1)
    assert env.worlds.rules == Rules("target_velocity", 0.3, "control", 0.7, 0.4)


def test_what_is_outside_is_drawn_uniformly_on_both_sides():
    rng = np.random.default_rng(0)
    values = np.array([draw(rng, (2.0, 3.0), (1.0, 6.0)) for _ in range(4000)])
    shares = np.histogram(values, bins=[1, 2, 3, 4, 5, 6])[0] / len(values)
    np.testing.assert_allclose(shares, [0.25, 0.0, 0.25, 0.25, 0.25], atol=0.03)


@pytest.mark.parametrize(
    ("exp", "override", "message"),
    [
        ("dynamics", "tasks.factors=[1.0]", "tasks.factors is [1.0], but must be [low, high]"),
        ("dynamics", "tasks.factors=[2.0,1.0]", "tasks.factors is [2.0, 1.0], but must be [low, high]"),
        ("dynamics", "tasks.factors=[0.25,3.0]", "tasks.outside_factors is [0.15, 2.25], but must contain"),
        ("dynamics", "tasks.factors=[0.15,2.25]", "tasks.outside_factors is [0.15, 2.25], but must contain"),
        (
            "dynamics",
            "tasks.outside_factors=[0.01,3]",
            "tasks.outside_factors is [0.01, 3.0], but must be at least 0.05",
        ),
        ("dynamics", "tasks.test_range=beyond", "tasks.test_range is 'beyond', but must be one of inside, outside"),
        ("hidden_goal", "tasks.distances=[2,1]", "tasks.distances is [2.0, 1.0], but must be [low, high]"),
        ("hidden_goal", "tasks.directions=[-140,90]", "tasks.outside_directions is [-135.0, 135.0], but must contain"),
        ("constraint", "tasks.groups=[]", "tasks.groups is [], but must name a kind of object"),
        ("constraint", "tasks.groups=[vases,vases]", "and each only once"),
        ("half_cheetah_velocity", "tasks.outside_velocities=[0,20]", "tasks.outside_velocities is [0.0, 20.0], but m"),
        ("half_cheetah_velocity", "tasks.velocities=[0,5]", "tasks.outside_velocities is [0.0, 3.0], but must contain"),
        ("half_cheetah_velocity", "tasks.cost=hight", "tasks.cost is 'hight', but must be one of velocity, control"),
        ("half_cheetah_direction", "tasks.test_range=outside", "tasks.test_range is outside, but tasks.ways is two"),
        ("constraint", "tasks.limit_factors=[-1,1]", "tasks.outside_limit_factors is [0.2, 2.5], but must contain"),
    ],
)
def test_a_bad_range_is_refused_by_name(exp, override, message):
    outside = ["tasks.test_range=outside"] if "tasks.outside_" in message else []  # what is not used is not checked
    with pytest.raises(UserError) as error:
        load_experiment(exp, [*outside, override])
    assert message in str(error.value)


def test_a_robot_in_a_plane_has_two_ways():
    with pytest.raises(UserError, match=r"tasks\.ways is any, but SafetyHopperVelocity-v1 moves in a plane: set it to"):
        TargetDirectionFamily(env_id="SafetyHopperVelocity-v1").make_env(1, 1, horizon=5, workers=1)


def test_hidden_goals_lie_ahead_at_their_distances():
    tasks = split_tasks(HiddenGoalFamily(), "train", cost_limit=4.0)
    distances = np.array([distance(task) for task in tasks])
    assert distances.min() >= 1.1
    assert distances.max() <= 1.4
    assert abs(np.corrcoef(distances, [direction(task) for task in tasks])[0, 1]) < 0.1


def test_factors_of_the_dynamics_are_drawn_apart():
    factors = [list(task.parameters.values()) for task in split_tasks(DynamicsFamily(), "train", cost_limit=4.0)]
    assert np.abs(np.corrcoef(factors, rowvar=False) - np.eye(3)).max() < 0.1


def test_every_choice_of_costs_is_a_task_and_some_are_in_conflict():
    tasks = split_tasks(ConstraintFamily(), "train", cost_limit=4.0)
    choices = [(task.parameters["cost_hazards"], task.parameters["cost_vases"]) for task in tasks]
    for choice in [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)]:
        assert 0.28 < choices.count(choice) / len(choices) < 0.39
    assert (0.0, 0.0) not in choices
    limits = np.array([task.cost_limit for task in tasks])
    assert abs(np.corrcoef(limits, [choice[0] for choice in choices])[0, 1]) < 0.1
    unlimited = ConstraintFamily().task(0, cost_limit=math.inf)
    assert unlimited.cost_limit == math.inf


def test_nearness_is_observed_with_all_that_is_observed_without_it():
    plain = DynamicsFamily()
    tasks = split_tasks(plain, "train", cost_limit=4.0)[:2]
    without, with_it, oracle = (
        roll_out(dataclasses.replace(plain, **options), tasks)["observation"]
        for options in ({}, {"near": 0.3}, {"near": 0.3, "observe_task": True})
    )
    size, lidars = without.shape[-1], 3 * 16  # of goal, hazards and vases
    assert torch.equal(with_it[..., :size], without)
    assert with_it.shape[-1] == size + lidars
    assert torch.equal(oracle[..., : size + lidars], with_it)


@pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0 to a scalar:DeprecationWarning")
def test_nearness_is_the_same_where_safety_gymnasium_itself_runs():
    family = LayoutFamily(near=0.3)
    tasks = split_tasks(family, "train", cost_limit=4.0)[:2]
    engine, original = (roll_out(dataclasses.replace(family, engine=engine), tasks) for engine in ("exact", "original"))
    for keys in (("observation",), ("next", "observation")):
        torch.testing.assert_close(original[keys], engine[keys].to(original[keys].dtype), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("env_id", "engine"),
    [("SafetyPointRun0-v0", "fast"), ("SafetyPointRun0-v0", "original"), ("SafetyHopperVelocity-v1", "fast")],
)
def test_an_id_without_a_lidar_has_no_nearness(env_id, engine):
    family = LayoutFamily(env_id=env_id, engine=engine)
    tasks = split_tasks(family, "train", cost_limit=4.0)[:1]
    plain, near = (roll_out(dataclasses.replace(family, near=near), tasks) for near in (None, 0.3))
    assert torch.equal(near["next", "observation"], plain["next", "observation"])
