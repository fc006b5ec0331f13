"""Checks Safety-Gymnasium ids."""

import difflib

from cmaml_pl.envs.safety_gymnasium_import import import_safety_gymnasium
from cmaml_pl.errors import UserError


def check_env_id(env_id: str, horizon: int | None) -> int:
    """Steps of an episode of `env_id`: `horizon`, or the id's own limit if `horizon` is None.

    Raises:
        UserError: Safety-Gymnasium has no such id with a vector observation, or ends its episodes before `horizon`.
    """
    safety_gymnasium = import_safety_gymnasium()
    # ids with images (Vision) or keyboard control (Debug) are left out: policies here observe vectors
    known = [i for i in safety_gymnasium.utils.registration.safe_registry if "Vision" not in i and "Debug" not in i]
    if env_id not in known:
        near = difflib.get_close_matches(env_id, known, n=5, cutoff=0.5) or sorted(known)[:5]
        raise UserError(
            f"tasks.env_id is {env_id!r}, which is no Safety-Gymnasium task with a vector observation; "
            f"the nearest ids are {', '.join(near)}."
        )
    limit = int(safety_gymnasium.utils.registration.spec(env_id).max_episode_steps)
    if horizon is not None and not 1 <= horizon <= limit:
        raise UserError(f"rollout.horizon is {horizon}; an episode of {env_id} has 1 to {limit} steps.")
    return limit if horizon is None else horizon
