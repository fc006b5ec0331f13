"""Safety-Gymnasium's own vector environment, as its users have it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cmaml_pl.envs.safety_gymnasium_import import import_safety_gymnasium


@contextmanager
def original_resets() -> Iterator[None]:
    """Within the block, Safety-Gymnasium's resets are not made cheap by cmaml_pl's import; forks keep what they had."""
    import_safety_gymnasium()
    import safety_gymnasium.world
    import xmltodict
    import yaml

    safety_gymnasium.world.xmltodict, safety_gymnasium.world.yaml = xmltodict, yaml
    try:
        yield
    finally:
        import_safety_gymnasium()


class CostsInInfo:
    """Safety-Gymnasium's vector environment with the interface of Gymnasium's: costs are in the info."""

    render_mode = None

    def __init__(self, env: Any) -> None:
        self._env = env

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def step(self, actions: Any) -> tuple[Any, ...]:
        """As Gymnasium's."""
        self._env.step_async(actions)
        return self.step_wait()

    def step_wait(self) -> tuple[Any, ...]:
        """As Gymnasium's."""
        observation, reward, cost, terminated, truncated, info = self._env.step_wait()
        return observation, reward, terminated, truncated, {**info, "cost": cost}

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        self._env.close(terminate=True)


def own_vector_env(env_id: str, worlds: int) -> CostsInInfo:
    """Safety-Gymnasium's own vector environment, asynchronous and with its own resets, as a user has it."""
    package = import_safety_gymnasium()
    with original_resets():
        return CostsInInfo(package.vector.make(env_id, num_envs=worlds))
