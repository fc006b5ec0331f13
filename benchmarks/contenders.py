"""What navigation_speed.py measures, each a class whose objects live through all repeats, in a process of their own."""

import math
import re
import time
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import mujoco
import numpy as np
import torch
from mujoco.batch import Batch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.collectors import Collector

from cmaml_pl.envs.navigation import NavigationEnv
from cmaml_pl.envs.safety_gymnasium_import import import_safety_gymnasium
from cmaml_pl.errors import UserError
from cmaml_pl.nets.networks import GaussianActor

SLICES = 10
"""Of a repeat: the collector hands over a batch in each."""
LEAST_WORLDS = 64
PHYSICS_WORLDS, PHYSICS_LAYOUTS = 128, 32
"""Worlds of bare physics, which more make no faster, and layouts that they share."""
PHYSICS_SECONDS = 0.5
"""About how long a slice of bare physics takes, which is as fast early in an episode as late."""
MEMORY_STEPS = 20
LOG_STD = -0.5  # cmaml_pl's default


class Contender(Protocol):
    """Something with figures to give; `worlds` says of how many worlds."""

    worlds: int

    def measure(self) -> float:
        """One more figure: environment steps per second of a slice, or MiB."""

    def close(self) -> None:
        """End its processes."""


class Policy(TensorDictModuleBase):
    """A random 64x64 tanh Gaussian policy: observations (..., D) -> actions (..., A), float32.

    It is to run on one thread, as cmaml_pl's updates do: PyTorch's threads, waiting for work, take a fifth of two cores
    away from physics.
    """

    in_keys = ("observation",)
    out_keys = ("action",)

    def __init__(self, observations: int, actions: int) -> None:
        super().__init__()
        weights = torch.Generator().manual_seed(0)
        self._actor = GaussianActor(observations, actions, hidden=(64, 64), init_log_std=LOG_STD, generator=weights)

    @torch.no_grad()
    def act(self, observation: Tensor) -> Tensor:
        """Samples actions."""
        loc, scale = self._actor(observation)
        action: Tensor = loc + scale * torch.randn_like(loc)
        return action

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Adds the action."""
        return tensordict.set("action", self.act(tensordict["observation"]))


class Engine:
    """NavigationEnv through TorchRL's collector.

    It runs fewer worlds than it may where a repeat would outlast `window`, by its speed when tried with a few: a slow
    id loses nothing by that, for its batched steps still take long beside what they cost regardless of the worlds.

    Args:
        env_id: Safety-Gymnasium id.
        mode: the engine's.
        most_worlds: worlds that it may run.
        steps: of every world in a repeat.
        window: about how long a repeat may last, s.
        threads: of the physics.
    """

    def __init__(self, env_id: str, mode: str, most_worlds: int, steps: int, window: float, threads: int) -> None:
        self._make = partial(NavigationEnv, env_id, mode=mode, num_threads=threads)
        self._batch_steps = max(1, steps // SLICES)
        self._start(min(most_worlds, LEAST_WORLDS))
        fitting = self.measure() * window / steps
        worlds = min(most_worlds, max(LEAST_WORLDS, 2 ** round(math.log2(fitting))))
        if worlds != self.worlds:
            self.close()
            self._start(worlds)

    def _start(self, worlds: int) -> None:
        self.worlds = worlds
        env = self._make(num_envs=worlds)
        policy = Policy(env.observation_spec["observation"].shape[-1], env.action_spec.shape[-1])
        self._collector = Collector(
            env,
            policy,
            frames_per_batch=worlds * self._batch_steps,
            total_frames=-1,
            track_traj_ids=False,
            trust_policy=True,
            auto_register_policy_transforms=False,
        )
        self._batches = iter(self._collector)
        self.measure()  # with the first reset and all that is made on first use

    def measure(self) -> float:
        """Steps per second; the slices of a repeat hold one reset of every world, at whatever step they start."""
        start = time.perf_counter()
        frames = next(self._batches).numel()
        return float(frames / (time.perf_counter() - start))

    def close(self) -> None:
        """End the collector and its environment."""
        self._collector.shutdown()


class VectorEnv:
    """safety_gymnasium.vector, its asynchronous environment, with a process for each of its worlds.

    Args:
        env_id: Safety-Gymnasium id.
        worlds: and workers.
        steps: of every world in a repeat.
        as_is: whether resets stay as they are, instead of as cmaml_pl's import makes them.
    """

    def __init__(self, env_id: str, worlds: int, steps: int, *, as_is: bool) -> None:
        package = import_safety_gymnasium()
        if as_is:
            _restore_resets()
        self.worlds, self._steps = worlds, max(1, steps // SLICES)
        self._env = package.vector.make(env_id, num_envs=worlds)
        self._observation, _ = self._env.reset(seed=0)
        self._policy = Policy(self._observation.shape[-1], self._env.action_space.shape[-1])

    def measure(self) -> float:
        """Steps per second; the slices of a repeat hold one reset of every world."""
        start = time.perf_counter()
        for _ in range(self._steps):
            action = self._policy.act(torch.from_numpy(self._observation).float())
            self._observation, *_ = self._env.step(action.numpy())
        return self.worlds * self._steps / (time.perf_counter() - start)

    def close(self) -> None:
        """End the workers, whatever they are at."""
        self._env.close(terminate=True)


def _restore_resets() -> None:
    """Undo what cmaml_pl's import does to Safety-Gymnasium's resets, in this process and in its forks."""
    import safety_gymnasium.world
    import xmltodict
    import yaml

    safety_gymnasium.world.xmltodict, safety_gymnasium.world.yaml = xmltodict, yaml


class Physics:
    """What MuJoCo takes for the calls of a step, 10 x mj_step and 1 x mj_forward: nothing else, in threads.

    mujoco.batch gives the numbers of one MjData a world to the bit, at less than the cost of a loop over them.

    Args:
        env_id: Safety-Gymnasium id.
        mode: "fast" lets things at rest sleep, "exact" does not.
        threads: the caller's included.
    """

    def __init__(self, env_id: str, mode: str, threads: int) -> None:
        self.worlds = PHYSICS_WORLDS
        models, task = _compile_models(env_id, sleeping=mode == "fast")
        self._model, self._frameskip = models[0], task.sim_conf.frameskip_binom_n
        self._gremlins = task._mocaps.get("gremlins")
        self._batch = Batch(models[0], self.worlds, threads, persistent=True)
        self._batch.set_models([models[world % len(models)] for world in range(self.worlds)])
        # a random policy's last layer is small (gain 0.01): its actions are its noise
        noise = np.random.default_rng(0).standard_normal((97, self.worlds, self._model.nu))
        self._actions = np.clip(math.exp(LOG_STD) * noise, *self._model.actuator_ctrlrange.T)
        self._done, self._steps = 0, 10
        self._steps = max(1, round(self.measure() * PHYSICS_SECONDS / self.worlds))

    def measure(self) -> float:
        """Steps per second."""
        start = time.perf_counter()
        for _ in range(self._steps):
            self._done += 1
            step, action = self._done % 1000, self._actions[self._done % len(self._actions)]
            if step == 0:
                self._batch.reset()
            if self._gremlins is None:
                self._batch.bind("ctrl")[:] = action
                self._batch.step(nstep=self._frameskip, stage=int(mujoco.mjtStage.mjSTAGE_ACC))
            else:
                controls = int(mujoco.mjtState.mjSTATE_CTRL) | int(mujoco.mjtState.mjSTATE_MOCAP_POS)
                self._batch.rollout(self._frameskip, self._with_gremlins(step, action), controls, record=())
                self._batch.forward()
        return self.worlds * self._steps / (time.perf_counter() - start)

    def _with_gremlins(self, step: int, action: Any) -> Any:
        """Controls and the places that Gremlins.move gives before each mj_step, (worlds, frameskip, A + 3 gremlins)."""
        phase = (step * self._frameskip + np.arange(self._frameskip)) * self._model.opt.timestep
        height = np.full(self._frameskip, self._gremlins.size)
        x, y = np.sin(phase) * self._gremlins.travel, np.cos(phase) * self._gremlins.travel
        place = np.stack([x, y, height], axis=-1)
        places = np.tile(place, (self.worlds, 1, self._model.nmocap))
        return np.concatenate([np.repeat(action[:, None], self._frameskip, axis=1), places], axis=-1)

    def close(self) -> None:
        """Nothing to end: the threads go with the process."""


def _compile_models(env_id: str, *, sleeping: bool) -> tuple[list[mujoco.MjModel], Any]:
    """The models of PHYSICS_LAYOUTS layouts as Safety-Gymnasium writes them, less what is only seen, and its task."""
    env = import_safety_gymnasium().make(env_id).unwrapped
    models = []
    for seed in range(PHYSICS_LAYOUTS):
        env.reset(seed=seed)
        xml = re.sub(r"<texture\b[^>]*>(</texture>)?|\btexture=\"[^\"]*\"", "", env.task.world.xml_string)
        # njmax and nconmax make an arena of 450 MiB a world
        xml, found = re.subn(r"<size\b[^>]*>(</size>)?", '<size memory="16M"/>', xml)
        assert found == 1, f"{env_id} has {found} <size> elements"
        model = mujoco.MjModel.from_xml_string(xml)
        if sleeping:
            model.opt.enableflags |= mujoco.mjtEnableBit.mjENBL_SLEEP
        models.append(model)
    return models, env.task


class Memory:
    """By how much making `worlds` worlds of the engine and stepping them a little makes this process grow."""

    def __init__(self, env_id: str, mode: str, worlds: int, threads: int) -> None:
        self.worlds = worlds
        self._make = partial(NavigationEnv, env_id, mode=mode, num_threads=threads)
        self._run(self._make(num_envs=1))  # imports, and what one environment of any size needs

    def _run(self, env: NavigationEnv) -> NavigationEnv:
        state = env.reset()
        for _ in range(MEMORY_STEPS):
            state = env.step_mdp(env.rand_step(state))
        return env

    def measure(self) -> float:
        """MiB."""
        before = resident_memory()
        env = self._run(self._make(num_envs=self.worlds))
        grown = resident_memory() - before
        env.close()
        return grown

    def close(self) -> None:
        """Nothing to end."""


def resident_memory() -> float:
    """Resident set of this process, MiB."""
    status = Path("/proc/self/status")
    if not status.exists():
        raise UserError("the resident memory of a process is read from /proc, which only Linux has.")
    kib = re.search(r"VmRSS:\s*(\d+) kB", status.read_text())
    assert kib is not None
    return int(kib[1]) / 1024
