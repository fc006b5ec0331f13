"""The check of an environment of one's own: it lets good ones pass, and says of each fault what it is."""

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from cmaml_pl.envs import LocomotionEnv, NavigationEnv, check_task_env
from cmaml_pl.envs.base import TaskEnv, set_specs
from cmaml_pl.errors import UserError
from cmaml_pl.tasks.base import split_tasks
from cmaml_pl.tasks.gymnasium import GymnasiumFamily
from cmaml_pl.tasks.nav2d import Nav2DFamily

TASKS, ENVS, HORIZON = 2, 3, 6
FLAGS = ("done", "truncated")


class Walk(TaskEnv):
    """A random walk; a cost is being far out. Subclasses below spoil one thing each."""

    def __init__(self, *batch, horizon=HORIZON, size=1):
        super().__init__(batch_size=torch.Size(batch or (TASKS, ENVS)))
        self.horizon, self.place, self.generator = horizon, torch.zeros(*self.batch_size, 1), torch.Generator()
        self.age = torch.zeros(*self.batch_size, 1, dtype=torch.int64)
        self.declare(size)

    def declare(self, size):
        set_specs(self, observation_size=size, low=-torch.ones(1), high=torch.ones(1))

    def _set_tasks(self, tasks):
        self.tasks = tasks

    def _set_seed(self, seed):
        self.generator.manual_seed(seed)

    def chosen(self, tensordict):
        if tensordict is None or "_reset" not in tensordict.keys():
            return torch.ones_like(self.age, dtype=torch.bool)
        return tensordict["_reset"]

    def noise(self):
        return torch.rand(self.place.shape, generator=self.generator)

    def _reset(self, tensordict=None, **kwargs):
        chosen = self.chosen(tensordict)
        self.place, self.age = torch.where(chosen, self.noise(), self.place), torch.where(chosen, 0, self.age)
        return self.give(truncated=torch.zeros_like(chosen))

    def _step(self, tensordict):
        self.place, self.age = self.place + tensordict["action"], self.age + 1
        return self.give(reward=self.place.clone(), truncated=self.age >= self.horizon)

    def give(self, **values):
        terminated = torch.zeros_like(self.age, dtype=torch.bool)
        done = {"terminated": terminated, "done": values["truncated"].clone()}
        seen = {"observation": self.place.clone(), "cost": (self.place.abs() > 1).float()}
        return TensorDict({**seen, **done, **values}, self.batch_size)


class NoCost(Walk):
    def give(self, **values):
        return super().give(**values).exclude("cost")


class WholeCost(Walk):
    def give(self, **values):
        return super().give(**values, cost=torch.zeros(self.place.shape, dtype=torch.int64))


class NoCostDeclared(Walk):
    def declare(self, size):
        super().declare(size)
        del self.observation_spec["cost"]


class NothingDeclared(Walk):
    def declare(self, size):
        pass


class Double(Walk):
    def declare(self, size):
        set_specs(self, observation_size=size, low=-torch.ones(1), high=torch.ones(1), dtype=torch.float64)


class Never(Walk):
    def _step(self, tensordict):
        return super()._step(tensordict).update({name: torch.zeros_like(self.age).bool() for name in FLAGS})


class Early(Walk):
    def _step(self, tensordict):
        step = super()._step(tensordict)
        return step.update(dict.fromkeys(FLAGS, self.age >= 4))


class ResetsAll(Walk):
    def chosen(self, tensordict):
        return torch.ones_like(self.age, dtype=torch.bool)


class NotDone(Walk):
    def _step(self, tensordict):
        return super()._step(tensordict).update({"done": torch.zeros_like(self.age).bool()})


class DoneAtOnce(Walk):
    def _reset(self, tensordict=None, **kwargs):
        state, partial = super()._reset(tensordict), tensordict is not None and "_reset" in tensordict.keys()
        return state.update({name: torch.full_like(state[name], partial) for name in FLAGS})


class Infinite(Walk):
    def _step(self, tensordict):
        step = super()._step(tensordict)
        return step.update({"reward": torch.where(self.age > 3, torch.nan, step["reward"])})


class Unseeded(Walk):
    def _set_seed(self, seed):
        pass


class Failing(Walk):
    def _step(self, tensordict):
        raise ZeroDivisionError("no friction")


class Picky(Walk):
    def _set_tasks(self, tasks):
        self.goal = [task.parameters["goal"] for task in tasks]


class Proud(Walk):
    def _set_tasks(self, tasks):
        raise TypeError("no tasks, please")


class Nameless(Walk):
    def positions(self):
        return {"robot": np.zeros((TASKS, ENVS, 1, 2))}


class Flat(Walk):
    def positions(self):
        return {"agent": np.zeros((TASKS, ENVS, 2))}


class Wide(Walk):
    def give(self, **values):
        return super().give(observation=torch.zeros(TASKS, ENVS, 2), **values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Walk(TASKS), r"its batch size is \[2\]; give the base class batch_size"),
        (lambda: Walk(horizon=None), "its horizon is None; set self.horizon"),
        (lambda: Walk(horizon=0), "its horizon is 0; set self.horizon"),
        (object, "does not inherit from cmaml_pl.envs.base.TaskEnv"),
        (NoCostDeclared, "its specs have no 'cost'; .*set_specs declares"),
        (NothingDeclared, "its specs have no 'observation'"),
        (Double, "the spec of 'observation' has the dtype torch.float64; torch.float32"),
        (NoCost, "reset gives no 'cost'"),
        (WholeCost, "'cost' of reset has the dtype torch.int64; torch.float32"),
        (Wide, r"'observation' of reset has the shape \(2, 3, 2\), its spec \(2, 3, 1\)"),
        (Never, "an episode goes on after 6 steps, its horizon"),
        (Early, "most of its worlds are truncated after 4 steps, before its horizon, 6"),
        (ResetsAll, 'an episode goes on after 6 steps.* reset only the worlds that "_reset" names'),
        (NotDone, r"at step 6 done is not terminated \| truncated"),
        (DoneAtOnce, "a reset or a step fails, RuntimeError: .*done.* True after reset"),
        (Infinite, "'reward' of a step has numbers that are not finite"),
        (Unseeded, "the same seed does not give the same 'observation'; let _set_seed seed all"),
        (Failing, r"a reset or a step fails, ZeroDivisionError: no friction \(test_checking.py, line"),
        (Proud, r"set_tasks fails, TypeError: no tasks, please \(test_checking.py"),
        (Picky, "its tasks need 'goal'; give check_task_env tasks of your family"),
        (Nameless, "positions has robot, but no 'agent'"),
        (Flat, r"the positions of 'agent' have the shape \(2, 3, 2\); \(2, 3, 'things', 2\)"),
    ],
)
def test_it_says_what_is_wrong(make, message):
    with pytest.raises(UserError, match=f" cannot be trained on yet: .*{message}"):
        check_task_env(make())


def test_the_number_of_tasks_is_checked():
    with pytest.raises(UserError, match="was given 1 tasks; one for each of its 2 rows"):
        check_task_env(Walk(), split_tasks(Nav2DFamily(), "test", cost_limit=1.0)[:1])


@pytest.mark.parametrize("horizon", [1, 2, HORIZON])
def test_what_is_right_passes(horizon):
    check_task_env(Walk(horizon=horizon))


@pytest.mark.parametrize(
    "make",
    [
        lambda: NavigationEnv("SafetyAntButton1-v0", 2, 2, horizon=30),
        lambda: LocomotionEnv("SafetyHopperVelocity-v1", 2, 2, horizon=40),
    ],
)
@pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0 to a scalar:DeprecationWarning")
def test_the_engines_pass(make):
    check_task_env(make())


@pytest.mark.parametrize("family", [Nav2DFamily(), GymnasiumFamily(parameters={"g": [9.0, 11.0]})])
def test_families_pass_with_their_tasks(family):
    tasks = split_tasks(family, "test", cost_limit=1.0)[:2]
    env = family.make_env(2, 2, horizon=10, workers=1)
    check_task_env(env, tasks)
    env.close()
