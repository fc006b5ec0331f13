"""TorchRL environments of a user's own as one batch of worlds."""

import json
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tests.envs.own_worlds import ENVS, STEPS, random_rollout
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import SerialEnv

from cmaml_pl.envs.torchrl_env import TorchRLEnv, TorchRLWorld
from cmaml_pl.errors import UserError
from cmaml_pl.imports import import_object
from cmaml_pl.task import Task
from cmaml_pl.tasks.torchrl import TorchRLFamily

POINT = "examples.own_parts.point_mass:PointMass"
WINDS = (-0.2, 0.3, 90.0)  # the last one ends episodes
PointMass: Any = import_object("POINT", POINT)


class Shared(PointMass):
    """Draws its starts from torch's global random numbers, in double precision, and has nested keys."""

    def __init__(self, wind):
        super().__init__(wind)
        seen = Composite(position=Unbounded(2, dtype=torch.float64))
        self.observation_spec = Composite(agent=seen, info=Composite(price=Unbounded(1)))
        self.action_spec = Bounded(-1.0, 1.0, (1,), dtype=torch.float64)

    def _reset(self, tensordict=None, **kwargs):
        self.numbers = None
        return self.nested(super()._reset())

    def _step(self, tensordict):
        assert tensordict["action"].dtype == torch.float64
        return self.nested(super()._step(tensordict))

    def nested(self, state):
        price = state["cost"] + 2.0
        return state.exclude("cost", "observation").update(
            {"agent": TensorDict({"position": state["observation"].double()}), "info": TensorDict({"price": price})}
        )


SHARED = {"make": f"{__name__}:Shared", "observation_key": "agent.position", "cost_key": "info.price"}


def roll_out(make=POINT, *, workers=1, rank=0, ranks=1, **settings):
    """Random actions in worlds with several winds, of which rank `rank` steps its part."""

    def make_env(rows):
        return TorchRLEnv(make, rows, ENVS, horizon=5, num_workers=workers, options={"wind": 0.0}, **settings)

    return random_rollout(make_env, "wind", WINDS, rank=rank, ranks=ranks)


def test_its_numbers_are_those_of_the_environment():
    rollout, actions = roll_out()
    for p, wind in enumerate(WINDS):
        for e in range(ENVS):
            plain = PointMass(wind=wind)
            plain.set_seed(3 + p * ENVS + e)
            state, age = plain.reset(), 0
            for t in range(STEPS):
                assert torch.equal(rollout["observation"][p, e, t], state["observation"])
                state, age = plain.step(state.set("action", actions[t, p, e].clamp(-1, 1)))["next"], age + 1
                after = rollout["next"][p, e, t]
                for key in ("observation", "reward", "cost", "terminated"):
                    assert torch.equal(after[key], state[key]), key
                assert after["truncated"].item() == (age == 5)
                if after["done"]:
                    state, age = plain.reset(), 0
    ends = rollout["next"]["terminated"].sum(dim=(1, 2)).flatten().tolist()
    assert ends[:2] == [0, 0]
    assert ends[2] > 0


def test_neither_workers_nor_ranks_change_a_number_even_of_an_environment_that_draws_global_ones():
    whole, _ = roll_out(**SHARED)
    assert torch.equal(whole["observation"], roll_out(**SHARED, workers=2)[0]["observation"])
    parts = [roll_out(**SHARED, rank=rank, ranks=3)[0]["observation"] for rank in range(3)]
    assert torch.equal(whole["observation"], torch.cat(parts))
    starts = whole["observation"][:, :, 0, 0].flatten().tolist()
    assert len(set(starts)) == len(starts)
    assert (whole["next", "cost"] >= 2.0).all()  # info.price


class Drawn(PointMass):
    """Draws something when it is made."""

    def __init__(self, wind=0.0):
        super().__init__(wind)
        self.drawn = float(torch.randn(()))


def test_what_an_environment_draws_when_it_is_made_does_not_depend_on_the_past():
    world = TorchRLWorld(f"{__name__}:Drawn", {}, 5, "observation", "cost")

    def drawn(wind):
        world.set_task(Task("x", 0, 0, 1.0, {"wind": wind}))
        world.reset()
        return world._env.drawn

    assert drawn(0.1) == drawn(0.2) == drawn(0.1) != 0


def costly(step):
    return 10 * step["action"].abs() + step["next", "reward"]


def test_a_function_can_say_what_a_step_costs():
    rollout, actions = roll_out(cost_key=f"{__name__}:costly")
    expected = 10 * actions.clamp(-1, 1).abs()[..., 0].movedim(0, 2) + rollout["next", "reward"][..., 0]
    torch.testing.assert_close(rollout["next", "cost"][..., 0], expected)


def changed(**specs):
    def make(wind=0.0, change=None) -> PointMass:
        env = PointMass(wind)
        for name, spec in specs.items():
            setattr(env, name, spec)
        return env

    return make


two_actions = changed(action_spec=Composite(left=Bounded(-1.0, 1.0, (1,)), right=Bounded(-1.0, 1.0, (1,))))
discrete = changed(action_spec=Categorical(3))
picture = changed(observation_spec=Composite(observation=Unbounded((3, 8, 8)), cost=Unbounded(1)))
two_rewards = changed(reward_spec=Unbounded(2))
nested_end = changed(done_spec=Composite(agent=Composite(done=Categorical(2, (1,), dtype=torch.bool))))


def batched(wind=0.0) -> SerialEnv:
    return SerialEnv(2, lambda: PointMass(wind))


def untrue() -> PointMass:
    return None


class Faulty(PointMass):
    def _step(self, tensordict):
        return tensordict.nothing


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"make": None}, r"tasks\.make is null: name what makes your environment"),
        ({"make": "nowhere:make"}, r"tasks\.make is 'nowhere:make', which cannot be imported: .*nowhere"),
        ({"options": {"h": 1}}, r"tasks\.make is .*, which fails with h, wind of tasks\.options .*: TypeError: .*'h'"),
        ({"make": f"{__name__}:untrue", "parameters": {}}, r"but gives NoneType: a TorchRL environment is needed"),
        ({"make": "torch:zeros"}, r"must be a class that inherits from .*EnvBase, or a function .*: def zeros"),
        ({"make": f"{__name__}:batched"}, r"gives an environment with batch size \[2\]: a single one"),
        ({"make": f"{__name__}:Faulty"}, r"tasks\.make is .*, whose _step fails: AttributeError: .*'nothing'"),
        ({"make": f"{__name__}:two_actions"}, r"but its actions are left, right: exactly one action is needed"),
        ({"make": f"{__name__}:discrete"}, r"but its action 'action' is Categorical, .*: a vector of real numbers"),
        ({"make": f"{__name__}:picture"}, r"'observation' \(tasks\.observation_key\) is Unbounded.*\[3, 8, 8\]"),
        ({"make": f"{__name__}:two_rewards"}, r"but its reward has the shape \[2\]: \[1\] is needed"),
        ({"make": f"{__name__}:nested_end"}, r"but its ends of an episode are .*: done is needed"),
        ({"observation_key": "agent.pixels"}, r"tasks\.observation_key is 'agent\.pixels', but .* has only .*obs"),
        ({"cost_key": "info.cost"}, r"tasks\.cost_key is 'info\.cost', but the numbers of a step .* cost.* name one"),
        ({"cost_key": "nowhere:cost"}, r"tasks\.cost_key is 'nowhere:cost', which cannot be imported"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_reason(settings, message):
    with pytest.raises(UserError, match=message):
        TorchRLFamily(**{"make": POINT, "parameters": {"wind": [0, 1]}, **settings}).make_env(
            1, 1, horizon=5, workers=1
        )


def test_what_does_not_say_that_it_makes_an_environment_is_not_called(tmp_path):
    """A run folder from a stranger may name any function that is installed."""
    made = tmp_path / "made"
    family = TorchRLFamily(make="subprocess:run", options={"args": ["touch", str(made)]}, parameters={})
    with pytest.raises(UserError, match=r"tasks\.make is 'subprocess:run', but must be"):
        family.make_env(1, 1, horizon=5, workers=1)
    assert not made.exists()


class Spoilt(PointMass):
    """Has a fault, which `fault` names."""

    def __init__(self, wind=0.0, fault=None):
        super().__init__(wind)
        self.fault = fault

    def _reset(self, tensordict=None, **kwargs):
        return super()._reset() if self.fault != "reset" else 1 / 0

    def _step(self, tensordict):
        if self.fault == "parse":
            json.loads("no JSON")  # fails in a file of the standard library
        size = {"longer": 5, "grad": 2}.get(self.fault)
        other = {"observation": torch.zeros(size, requires_grad=self.fault == "grad")} if size else {}
        return super()._step(tensordict).update(other).exclude(self.fault or "")


def words(step):
    return "high"


def broken(step):
    return step["nothing"]


WHO = r"tasks\.make is '.*Spoilt', whose"


@pytest.mark.parametrize(
    ("fault", "cost", "message"),
    [
        ("reset", "cost", rf"{WHO} _reset fails: ZeroDivisionError: .* \(test_torchrl_env.py, line \d+\)\."),
        ("parse", "cost", rf"{WHO} _step fails: JSONDecodeError: .* \(test_torchrl_env.py, line \d+\)\."),
        ("grad", "cost", rf"{WHO} _step \(test_torchrl_env.py, line \d+\) gives the observation tensor"),
        ("longer", "cost", rf"{WHO} _step \(test_torchrl_env.py, line \d+\) gives an observation of shape \(5,\), but"),
        ("reward", "cost", rf"{WHO} _step \(test_torchrl_env.py, .*\) does not do what TorchRL needs: "),
        (None, f"{__name__}:words", r"tasks\.cost_key is '.*:words', which gives 'high'; a number is needed"),
        (None, f"{__name__}:broken", r"tasks\.cost_key is '.*:broken', which fails: KeyError.*\(test_torchrl_env.py"),
    ],
)
def test_a_fault_is_told_with_its_place(fault, cost, message):
    world = TorchRLWorld(f"{__name__}:Spoilt", {"fault": fault}, 5, "observation", cost)
    with pytest.raises(UserError, match=message):
        world.try_out()
