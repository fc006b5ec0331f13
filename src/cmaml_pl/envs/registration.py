"""Registers the engines' ids with Gymnasium, which calls it as a plug-in with every `import gymnasium`."""

from functools import partial
from typing import Any

from .safety_gymnasium_ids import ENGINE_IDS, NAMESPACE


def register_envs() -> None:
    """Let `gymnasium.make_vec("cmaml_pl/ID", vectorization_mode="custom")` make each id; a second call does nothing."""
    from gymnasium.envs.registration import register, registry

    for env_id in ENGINE_IDS:
        name = f"{NAMESPACE}/{env_id}"
        if name not in registry:
            register(name, vector_entry_point=partial(_make_vec, env_id))  # it is not given the id by Gymnasium


def _make_vec(env_id: str, **options: Any) -> Any:
    from .vector import make_vec  # here, because it needs Gymnasium, which is not yet imported above

    return make_vec(env_id, **options)
