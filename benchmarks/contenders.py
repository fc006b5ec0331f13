"""The contenders that engine_speed.py measures.

Each contender is a class. Its object lives in a process of its own, through all repeats.
"""

import math
import re
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import mujoco
import numpy as np
import torch
from benchmarks.original import original_resets
from gymnasium.vector import AsyncVectorEnv
from mujoco.batch import Batch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.collectors import Collector

from cmaml_pl.envs.locomotion import LocomotionEnv
from cmaml_pl.envs.locomotion.definition import read_definition
from cmaml_pl.envs.navigation import NavigationEnv
from cmaml_pl.envs.physics import Worlds
from cmaml_pl.envs.safety_gymnasium_import import import_safety_gymnasium
from cmaml_pl.errors import UserError
from cmaml_pl.nets.networks import GaussianActor

SLICES = 10
"""Number of slices of a repeat; in each slice the collector gives one batch."""
LEAST_WORLDS = 64
PHYSICS_WORLDS, PHYSICS_LAYOUTS = 128, 32
"""Number of worlds of bare physics (more worlds make it no faster), and number of layouts that these worlds share."""
PHYSICS_SECONDS = 0.5
"""About how long a slice of bare physics takes, s. It may be short, because bare physics is as fast early in an episode
as late."""
MEMORY_STEPS = 20
LOG_STD = -0.5  # cmaml_pl's default


class Contender(Protocol):
    """Something that can be measured; `worlds` is the number of its worlds."""

    worlds: int

    def measure(self) -> float:
        """One more measurement: environment steps per second in one slice, or memory in MiB."""

    def close(self) -> None:
        """End the contender's own processes."""


class Policy(TensorDictModuleBase):
    """A random 64x64 tanh Gaussian policy: observations (..., D) -> actions (..., A), float32.

    It must run on one thread, as cmaml_pl's updates do. With more threads, those of PyTorch wait for work, and this
    takes a fifth of two cores away from the physics.
    """

    in_keys = ("observation",)
    out_keys = ("action",)

    def __init__(self, observations: int, actions: int) -> None:
        super().__init__()
        weights = torch.Generator().manual_seed(0)
        self._actor = GaussianActor(observations, actions, hidden=(64, 64), init_log_std=LOG_STD, generator=weights)

    @torch.no_grad()
    def act(self, observation: Tensor) -> Tensor:
        """Random actions for observations, (..., D) -> (..., A)."""
        loc, scale = self._actor(observation)
        action: Tensor = loc + scale * torch.randn_like(loc)
        return action

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The tensordict, with the action added."""
        return tensordict.set("action", self.act(tensordict["observation"]))


class Engine:
    """NavigationEnv or LocomotionEnv, stepped through TorchRL's collector.

    It first measures its speed with few worlds. If a repeat with `most_worlds` worlds would take longer than `window`,
    it runs fewer worlds. For a slow id this hardly changes the result: its steps still take long compared with the part
    of their time that does not depend on the number of worlds.

    Args:
        env_id: Safety-Gymnasium id.
        mode: mode of the engine, "fast" or "exact".
        most_worlds: largest number of worlds.
        steps: number of steps of every world in a repeat.
        window: about how long a repeat may last, s.
        threads: number of threads of the physics.
    """

    def __init__(self, env_id: str, mode: str, most_worlds: int, steps: int, window: float, threads: int) -> None:
        engine = LocomotionEnv if env_id.endswith("Velocity-v1") else NavigationEnv
        self._make = partial(engine, env_id, mode=mode, num_threads=threads)
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
        self.measure()  # not counted: it includes the first reset and everything that is built on first use

    def measure(self) -> float:
        """Steps per second in one slice. All slices of a repeat together include one reset of every world."""
        start = time.perf_counter()
        frames = next(self._batches).numel()
        return float(frames / (time.perf_counter() - start))

    def close(self) -> None:
        """End the collector and its environment."""
        self._collector.shutdown()


class VectorEnv:
    """An asynchronous vector environment, with one worker process per world.

    Args:
        env_id: Safety-Gymnasium id.
        worlds: number of worlds, and of workers.
        steps: number of steps of every world in a repeat.
        kind: "vector_as_is", safety_gymnasium.vector with its own resets; "vector_stripped", with those that cmaml_pl's
            import makes cheap; or "gymnasium", gymnasium's own environment of the same body, which has no costs.
    """

    def __init__(self, env_id: str, worlds: int, steps: int, *, kind: str) -> None:
        package = import_safety_gymnasium()
        self.worlds, self._steps = worlds, max(1, steps // SLICES)
        self._env: Any  # neither package tells its types
        if kind == "gymnasium":
            body = env_id.removeprefix("Safety").removesuffix("Velocity-v1")
            self._env = AsyncVectorEnv([partial(gymnasium.make, f"{body}-v4")] * worlds)
        else:
            with original_resets() if kind == "vector_as_is" else nullcontext():
                self._env = package.vector.make(env_id, num_envs=worlds)
        self._observation, _ = self._env.reset(seed=0)
        self._policy = Policy(self._observation.shape[-1], self._env.action_space.shape[-1])

    def measure(self) -> float:
        """Steps per second in one slice. All slices of a repeat include one reset of every world."""
        start = time.perf_counter()
        for _ in range(self._steps):
            action = self._policy.act(torch.from_numpy(self._observation).float())
            self._observation, *_ = self._env.step(action.numpy())
        return self.worlds * self._steps / (time.perf_counter() - start)

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        self._env.close(terminate=True)


class Physics:
    """Only MuJoCo's calls of an environment step, 10 x mj_step and 1 x mj_forward, in threads.

    mujoco.batch gives results that are equal to the bit to those of one MjData per world, and takes less time than a
    loop over them.

    Args:
        env_id: Safety-Gymnasium id.
        mode: "fast" lets things at rest sleep, "exact" does not.
        threads: number of threads, including that of the caller.
    """

    def __init__(self, env_id: str, mode: str, threads: int) -> None:
        self.worlds = PHYSICS_WORLDS
        models, task = _compile_models(env_id, sleeping=mode == "fast")
        self._model, self._frameskip = models[0], task.sim_conf.frameskip_binom_n
        self._gremlins = task._mocaps.get("gremlins")
        self._batch = Batch(models[0], self.worlds, threads, persistent=True)
        self._batch.set_models([models[world % len(models)] for world in range(self.worlds)])
        # the last layer of a random policy is small (gain 0.01), so its actions are nearly pure noise
        noise = np.random.default_rng(0).standard_normal((97, self.worlds, self._model.nu))
        self._actions = np.clip(math.exp(LOG_STD) * noise, *self._model.actuator_ctrlrange.T)
        self._done, self._steps = 0, 10
        self._steps = max(1, round(self.measure() * PHYSICS_SECONDS / self.worlds))

    def measure(self) -> float:
        """Environment steps per second in one slice."""
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
        """Controls and the gremlins' positions (Gremlins.move) per mj_step, (worlds, frameskip, A + 3 gremlins)."""
        phase = (step * self._frameskip + np.arange(self._frameskip)) * self._model.opt.timestep
        height = np.full(self._frameskip, self._gremlins.size)
        x, y = np.sin(phase) * self._gremlins.travel, np.cos(phase) * self._gremlins.travel
        place = np.stack([x, y, height], axis=-1)
        places = np.tile(place, (self.worlds, 1, self._model.nmocap))
        return np.concatenate([np.repeat(action[:, None], self._frameskip, axis=1), places], axis=-1)

    def close(self) -> None:
        """Does nothing, because the threads end with the process."""


class LocomotionPhysics:
    """Only MuJoCo's calls of a step of a robot on legs, in threads; who has fallen starts anew.

    Args:
        env_id: Safety-Gymnasium id.
        threads: number of threads, including that of the caller.
    """

    def __init__(self, env_id: str, threads: int) -> None:
        self.worlds = PHYSICS_WORLDS
        self._definition = definition = read_definition(env_id)
        model = definition.model
        self._batch = Batch(model, self.worlds, threads, persistent=definition.kind == "HumanoidEnv")
        self._qpos, self._qvel, self._ctrl = (self._batch.bind(name) for name in ("qpos", "qvel", "ctrl"))
        definition.original.reset(seed=0)
        self._start = definition.original.data.qpos.copy(), definition.original.data.qvel.copy()
        noise = np.random.default_rng(0).standard_normal((97, self.worlds, model.nu))
        self._actions = math.exp(LOG_STD) * noise
        self._done, self._steps = 0, 10
        self._restart(np.arange(self.worlds))
        self._steps = max(1, round(self.measure() * PHYSICS_SECONDS / self.worlds))

    def _restart(self, worlds: Worlds) -> None:
        self._batch.reset(worlds, stage=0)
        self._qpos[worlds], self._qvel[worlds] = self._start

    def measure(self) -> float:
        """Environment steps per second in one slice."""
        start = time.perf_counter()
        for _ in range(self._steps):
            self._done += 1
            self._ctrl[:] = self._actions[self._done % len(self._actions)]
            self._batch.step(nstep=self._definition.frame_skip)
            ended = ~self._definition.alive(self._qpos, self._qvel) | (self._done % 1000 == 0)
            if ended.any():
                self._restart(np.flatnonzero(ended))
        return self.worlds * self._steps / (time.perf_counter() - start)

    def close(self) -> None:
        """Does nothing, because the threads end with the process."""


def _compile_models(env_id: str, *, sleeping: bool) -> tuple[list[mujoco.MjModel], Any]:
    """Models of PHYSICS_LAYOUTS layouts, and Safety-Gymnasium's task.

    The models are those that Safety-Gymnasium writes, but without textures, which only a camera sees.
    """
    env = import_safety_gymnasium().make(env_id).unwrapped
    models = []
    for seed in range(PHYSICS_LAYOUTS):
        env.reset(seed=seed)
        xml = re.sub(r"<texture\b[^>]*>(</texture>)?|\btexture=\"[^\"]*\"", "", env.task.world.xml_string)
        # replaces njmax and nconmax, for which MuJoCo would reserve 450 MiB per world
        xml, found = re.subn(r"<size\b[^>]*>(</size>)?", '<size memory="16M"/>', xml)
        assert found == 1, f"{env_id} has {found} <size> elements"
        model = mujoco.MjModel.from_xml_string(xml)
        if sleeping:
            model.opt.enableflags |= mujoco.mjtEnableBit.mjENBL_SLEEP
        models.append(model)
    return models, env.task


class Memory:
    """By how much the memory of this process grows when `worlds` worlds of the engine are made and stepped a little."""

    def __init__(self, env_id: str, mode: str, worlds: int, threads: int) -> None:
        self.worlds = worlds
        self._make = partial(NavigationEnv, env_id, mode=mode, num_threads=threads)
        self._run(self._make(num_envs=1))  # before measuring: imports, and what any environment needs

    def _run(self, env: NavigationEnv) -> NavigationEnv:
        state = env.reset()
        for _ in range(MEMORY_STEPS):
            state = env.step_mdp(env.rand_step(state))
        return env

    def measure(self) -> float:
        """Growth of the resident memory, MiB."""
        before = resident_memory()
        env = self._run(self._make(num_envs=self.worlds))
        grown = resident_memory() - before
        env.close()
        return grown

    def close(self) -> None:
        """Does nothing, because there are no processes to end."""


def resident_memory() -> float:
    """Resident memory of this process, MiB."""
    status = Path("/proc/self/status")
    if not status.exists():
        raise UserError("the resident memory of a process is read from /proc, which only Linux has.")
    kib = re.search(r"VmRSS:\s*(\d+) kB", status.read_text())
    assert kib is not None
    return int(kib[1]) / 1024
