"""A policy that adapts to one task from episodes that are played elsewhere, as on a robot."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from tensordict import TensorDict
from torch import Tensor

from cmaml_pl.algorithm.adaptation import method_at
from cmaml_pl.algorithm.module import CMAML
from cmaml_pl.errors import UserError
from cmaml_pl.math.finite import finite_rows
from cmaml_pl.math.gaussian import gaussian_log_prob
from cmaml_pl.seeding import derive_generator


@dataclass(frozen=True)
class Episode:
    """What has happened in an episode of T steps, as arrays or lists.

    Attributes:
        observations: before each step, and after the last one, (T + 1, D).
        actions: as `TaskPolicy.act` gave them, also where the robot has clipped them, (T, A).
        rewards: of each step, (T,).
        costs: of each step, (T,).
        terminated: whether the episode has ended for good, as by a fall, and not by its time limit.
    """

    observations: ArrayLike
    actions: ArrayLike
    rewards: ArrayLike
    costs: ArrayLike
    terminated: bool = False


class TaskPolicy:
    """The meta-policy of a run, which adapts to one task; the caller plays its episodes.

    It takes the adaptation steps of `CMAML.adapt`, for a batch of this task alone.

    Args:
        module: of `load_run`. It is not changed.
        cost_limit: d of the task, cost per episode, in the unit of the run's limit.
        seed: of the exploration noise.

    Attributes:
        theta: the parameters that act, (P,).
        multiplier: the task's lambda, scalar.
        steps: number of adaptation steps that were taken.

    Raises:
        UserError: the run's policy needs more than episodes to adapt.
    """

    def __init__(self, module: CMAML, *, cost_limit: float, seed: int = 0) -> None:
        if module.exploration is not None:
            raise UserError("A policy that explores by the context adapts in the environment alone: use module.adapt.")
        if module.actor.state_size:
            raise UserError("A policy that remembers its episode adapts in the environment alone: use module.adapt.")
        self.theta, self.multiplier, self.steps = module.deployed.clone(), module.multiplier.clone(), 0
        self._module, self._limit = module, torch.tensor([float(cost_limit)])
        self._generator = derive_generator(seed, "task policy")

    @torch.no_grad()
    def act(self, observation: ArrayLike, *, noise: bool = True) -> NDArray[np.float32]:
        """An action, (A,), for an observation, (D,); drawn as in training or, without `noise`, its mean."""
        features = self._module.actor.normaliser(torch.as_tensor(np.asarray(observation, np.float32)))
        loc, scale = (x[0, 0] for x in self._module.actor.stacked(self.theta[None], features[None, None]))
        action = loc + scale * torch.randn(loc.shape, generator=self._generator) if noise else loc
        return action.numpy().copy()

    def adapt(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """Take an adaptation step, on episodes that this policy has played since the step before.

        Returns:
            "return" and "cost", the means over the episodes; "kl" of the step, nats, which is 0 if none was accepted;
            and the new "lambda".

        Raises:
            UserError: an episode has a wrong shape, too many steps, or numbers that are not finite; or the step has.
                The policy stays as it was.
        """
        module, theta = self._module, self.theta[None]
        data = module.estimator.task_data(self._rollout(episodes), self._limit)
        method = method_at(module.inner, module.step_lengths, self.steps)
        step = method.step(module.actor, theta, self.multiplier[None], data)
        if not finite_rows([step.theta, step.multiplier]).all():
            raise UserError(
                "The adaptation step is not finite: the policy stays as it was. Look at the rewards and costs."
            )
        self.theta, self.multiplier, self.steps = step.theta[0], step.multiplier[0], self.steps + 1
        means = {"return": data.episode_return, "cost": data.episode_cost, "kl": step.kl, "lambda": step.multiplier}
        return {name: float(value) for name, value in means.items()}

    @torch.no_grad()
    def _rollout(self, episodes: Sequence[Episode]) -> TensorDict:
        """The episodes as those of the worlds of a task, TensorDict [1, episodes, time].

        A shorter episode is followed by the beginnings of the others, as a world goes on with new episodes.
        """
        if not episodes:
            raise UserError("There are no episodes: an adaptation step needs some, rollout.envs_per_task in training.")
        played = [self._read(episode, f"episode {i}") for i, episode in enumerate(episodes)]
        longest = max(map(len, played))
        rows = [torch.cat([*played[i:], *played[:i]])[:longest] for i in range(len(played))]
        rollout: TensorDict = torch.stack(rows)[None]
        features = self._module.actor.normaliser(rollout["observation"]).flatten(1, 2)
        loc, scale = (x.view_as(rollout["action"]) for x in self._module.actor.stacked(self.theta[None], features))
        log_prob = gaussian_log_prob(loc, scale, rollout["action"])
        return rollout.update({"loc": loc, "scale": scale, "action_log_prob": log_prob})

    def _read(self, episode: Episode, name: str) -> TensorDict:
        """An episode as TensorDict [time]; `name` is for messages."""
        spec = self._module.rollouts.env
        sizes = {
            "observations": (spec.observation_spec["observation"].shape[-1],),
            "actions": (spec.action_spec.shape[-1],),
            "rewards": (),
            "costs": (),
        }
        given = {key: np.asarray(getattr(episode, key), np.float32) for key in sizes}
        steps, most = len(given["rewards"]) if given["rewards"].ndim else 0, self._module.estimator.horizon
        if not 1 <= steps <= most:
            raise UserError(f"{name} has {steps} steps, but must have 1 to {most}, the rollout.horizon of the run.")
        for key, size in sizes.items():
            shape = (steps + (key == "observations"), *size)
            if given[key].shape != shape:
                raise UserError(f"{name} has {key} of shape {given[key].shape}, but they must have {shape}.")
            if not np.isfinite(given[key]).all():
                raise UserError(f"{name} has {key} that are not finite.")
        observations, actions, rewards, costs = map(torch.from_numpy, given.values())
        done = torch.zeros(steps, 1, dtype=torch.bool)
        done[-1] = True
        terminated = done & bool(episode.terminated)
        after: dict[str, Tensor] = {"observation": observations[1:], "reward": rewards[:, None], "cost": costs[:, None]}
        after |= {"done": done, "terminated": terminated, "truncated": done & ~terminated}
        now = {"observation": observations[:-1], "action": actions}
        return TensorDict({**now, "next": TensorDict(after, [steps])}, [steps])
