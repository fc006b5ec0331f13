"""Collects rollouts; in every task's worlds the policy runs with that task's own parameters."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TypeVar

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.collectors import Collector
from torchrl.envs import InitTracker, TransformedEnv
from torchrl.envs.utils import step_mdp

from cmaml_pl.distributed.ranks import ALONE, Ranks
from cmaml_pl.envs.base import TaskEnv
from cmaml_pl.errors import UserError
from cmaml_pl.math.gaussian import gaussian_log_prob
from cmaml_pl.nets.networks import Actor
from cmaml_pl.seeding import derive_generator, derive_seed
from cmaml_pl.task import Task

Sight = TypeVar("Sight")


class StackedPolicy(TensorDictModuleBase):
    """Samples actions for a batch [tasks, envs], row p with the parameters of task p.

    It acts on the CPU, where the worlds are.

    Args:
        actor: the network, on any device. Its own parameters are used only until `play` is called.
        num_tasks: number of rows of the batch.
        ranks: the processes that share the batch; they step other rows of it.

    Attributes:
        theta: parameters of each task, (tasks, P).
        fallback: parameters for the worlds outside `worlds`, (tasks, P); None if all have `theta`.
        worlds: those that have `theta`, bool, (tasks, envs).
        offsets: what is added to the context in each world, on the CPU, (tasks, envs, C); None for nothing.
        states: what `theta` and `fallback` remember of each world's episode, (tasks, envs, S) each.
    """

    in_keys = ("observation",)
    out_keys = ("loc", "scale", "action", "action_log_prob")

    def __init__(self, actor: Actor, num_tasks: int, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks
        self.generator = torch.Generator()
        self.play(actor, actor.vector().expand(num_tasks, -1))

    def play(
        self,
        actor: Actor,
        theta: Tensor,
        fallback: Tensor | None = None,
        worlds: Tensor | None = None,
        offsets: Tensor | None = None,
    ) -> None:
        """Set what acts from now on; whatever is on another device is copied to the CPU, once for a whole rollout."""
        # a list hides the actor from nn.Module: the collector must neither copy nor move what Lightning owns
        self._actor = [actor.on_cpu()]
        self.theta = theta.cpu()
        self.fallback = None if fallback is None else fallback.cpu()
        self.worlds = None if worlds is None else worlds.cpu()
        self.offsets = offsets
        self.states = [torch.zeros(len(theta), 1, actor.state_size)] * 2  # one for all worlds, until they play

    @torch.no_grad()
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The tensordict, with loc, scale, action, (tasks, envs, A) each, and action_log_prob, (tasks, envs), added."""
        actor = self._actor[0]
        features = actor.normaliser(tensordict["observation"])
        if self.offsets is not None:
            features = torch.cat([features, self.offsets], dim=-1)
        if actor.state_size:
            self.states = [state.where(~tensordict["is_init"], 0.0) for state in self.states]
        loc, scale, self.states[0] = actor.step(self.theta, features, self.states[0])
        if self.fallback is not None and self.worlds is not None:
            own = self.worlds[..., None]
            *others, self.states[1] = actor.step(self.fallback, features, self.states[1])
            loc, scale = (mine.where(own, other) for mine, other in zip((loc, scale), others, strict=True))
        noise = self.ranks.draw(torch.randn, loc.shape, generator=self.generator)
        action = loc + scale * noise
        return tensordict.update(
            {"loc": loc, "scale": scale, "action": action, "action_log_prob": gaussian_log_prob(loc, scale, action)}
        )


class Rollouts:
    """Collects one episode from every world of a batch of tasks, through TorchRL's collector.

    Args:
        env: environment with batch size [tasks, envs], for this rank's rows of the batch; closed by `close`.
        actor: the policy network that runs the parameters.
        seed: the configuration's seed.
        ranks: the processes that share a batch of tasks.
    """

    def __init__(self, env: TaskEnv, actor: Actor, *, seed: int, ranks: Ranks = ALONE) -> None:
        self.env = env
        self.seed = seed
        self.ranks = env.ranks = ranks
        self.actor = actor
        self._policy = StackedPolicy(actor, self.num_tasks, ranks)

    @cached_property
    def _batches(self) -> Iterator[TensorDictBase]:
        # built on first use: the collector resets the environment, which must have its tasks by then
        # an actor that remembers is told by "is_init", (tasks, envs, 1), which worlds were reset
        env = TransformedEnv(self.env, InitTracker()) if self.actor.state_size else self.env
        collector = Collector(
            env,
            self._policy,
            frames_per_batch=self.env.batch_size.numel() * self.env.horizon,
            total_frames=-1,
            reset_at_each_iter=True,
            track_traj_ids=False,
            trust_policy=True,
            auto_register_policy_transforms=False,
        )
        return iter(collector)

    @property
    def num_tasks(self) -> int:
        """Number of tasks in this rank's part of a batch."""
        return int(self.env.batch_size[0])

    @property
    def place(self) -> tuple[slice, int]:
        """This rank's rows among those of all ranks, and the number of all rows."""
        return self.ranks.part(self.num_tasks), self.num_tasks * self.ranks.size

    def set_tasks(self, tasks: Sequence[Task]) -> tuple[list[Task], int]:
        """Set the tasks of the following rollouts; if there are fewer tasks than rows, the tasks are repeated.

        Returns:
            The tasks of this rank's rows, and how many of them, from the first one on, are not repetitions.

        Raises:
            UserError: there are no tasks, or more than rows.
        """
        part, most = self.place
        if not 1 <= len(tasks) <= most:
            raise UserError(
                f"{len(tasks)} tasks cannot be adapted to at once, but 1 to {most}, which is train.tasks_per_batch. "
                "Adapt to more of them batch by batch."
            )
        rows = [tasks[i % len(tasks)] for i in range(part.start, part.stop)]
        self.env.set_tasks(rows)
        return rows, len(tasks[part])

    def draw_worlds(self, share: Tensor, *stream: str | int) -> Tensor:
        """A random choice of worlds, bool, (tasks, envs); `share` is the probability of a task's worlds, (tasks,)."""
        generator = derive_generator(self.seed, "worlds", *stream)
        uniform = self.ranks.draw(torch.rand, self.env.batch_size, generator=generator)
        return uniform.to(share.device) < share[:, None]

    def draw_noise(self, size: int, *stream: str | int) -> Tensor:
        """Standard normal numbers in pairs x and -x, (tasks, envs, `size`); an odd world is without its pair."""
        generator, (rows, envs) = derive_generator(self.seed, "context", *stream), self.env.batch_size
        noise = self.ranks.draw(torch.randn, (rows, (envs + 1) // 2, size), generator=generator)
        return torch.cat([noise, -noise], dim=1)[:, :envs]

    def collect(
        self,
        theta: Tensor,
        *stream: str | int,
        fallback: Tensor | None = None,
        worlds: Tensor | None = None,
        offsets: Tensor | None = None,
    ) -> TensorDict:
        """One rollout; it begins with a reset of all worlds.

        Args:
            theta: parameters of the tasks of this rank's rows, (tasks, P).
            stream: names the random stream of this rollout; the same names give the same random numbers.
            fallback: parameters for the worlds outside `worlds`, (tasks, P); None if all have `theta`.
            worlds: those that have `theta`, bool, (tasks, envs).
            offsets: what is added to the context in each world, on the CPU, (tasks, envs, C).

        Returns:
            TensorDict [tasks, envs, time] with observation, action, action_log_prob, loc, scale and, under "next",
            observation, reward, cost, done, terminated, truncated; with "offset", if there are `offsets`; and with
            "is_init", whether an episode begins with the step, if the actor remembers. It is on the device of `theta`.
        """
        self._policy.play(self.actor, theta, fallback, worlds, offsets)
        batches = self._batches  # before the seeding: a new collector tries the policy, which draws random numbers
        self._policy.generator = derive_generator(self.seed, "action", *stream)
        self._seed_env(*stream)
        batch: TensorDict = next(batches)
        if offsets is not None:
            batch["offset"] = offsets[:, :, None].expand(*batch.shape, -1).contiguous()  # else it cannot be pinned
        return batch if theta.device.type == "cpu" else move(batch, theta.device)

    def replay(self, actions: Tensor, look: Callable[[], Sight], *stream: str | int) -> list[Sight]:
        """Play the actions of a rollout again, from the same resets, and call `look` along the way.

        Args:
            actions: the actions of the rollout that `collect` gave for this stream and these tasks, (tasks, envs, time,
                A).
            look: called after the reset and after every step, before a world whose episode has ended is reset.
            stream: the stream of that rollout.

        Returns:
            The time + 1 results of `look`.
        """
        self._seed_env(*stream)
        state, seen = self.env.reset(), [look()]
        for action in actions.cpu()[torch.arange(self.num_tasks) % len(actions)].unbind(dim=2):
            after = self.env.step(state.set("action", action))
            seen.append(look())
            state = self.env.maybe_reset(step_mdp(after))
        return seen

    def _seed_env(self, *stream: str | int) -> None:
        """Seed the worlds; where the environment does not divide its random numbers, each rank has its own seed."""
        alike = self.env.divides_numbers or self.ranks.rank == 0
        own = () if alike else ("rank", self.ranks.rank)
        self.env.set_seed(derive_seed(self.seed, "environment", *stream, *own))

    def close(self) -> None:
        """Close the environment and its worker processes."""
        self.env.close(raise_if_closed=False)


def move(rollout: TensorDict, device: torch.device) -> TensorDict:
    """The rollout on another device; to a GPU its tensors go from pinned memory, while the program goes on."""
    return rollout.to(device, non_blocking_pin=device.type == "cuda", num_threads=0)
