"""The Safety-Gymnasium ids that the engines run, and a check of ids."""

import difflib
from collections.abc import Iterator

from ..errors import UserError
from .safety_gymnasium_import import import_safety_gymnasium

NAMESPACE = "cmaml_pl"
"""What stands before a slash in the ids that Gymnasium knows."""


def _engine_ids() -> Iterator[str]:
    for agent in ("Point", "Car", "Racecar", "Doggo", "Ant"):
        for task in ("Goal", "Button", "Push", "Circle", "FadingEasy", "FadingHard"):
            yield from (f"Safety{agent}{task}{level}-v0" for level in range(3))
        yield f"Safety{agent}Run0-v0"
    for body in ("HalfCheetah", "Hopper", "Walker2d", "Ant", "Humanoid"):
        yield from (f"Safety{body}Velocity-{version}" for version in ("v0", "v1"))


ENGINE_IDS = tuple(_engine_ids())
"""Safety-Gymnasium's ids that the engines run: all with vector observations except Race and Swimmer."""


def check_env_id(
    env_id: str, horizon: int | None, *, id_key: str = "tasks.env_id", horizon_key: str = "rollout.horizon"
) -> int:
    """Steps of an episode of `env_id`: `horizon`, or the id's own limit if `horizon` is None.

    The keys are the names of the two arguments in messages.

    Raises:
        UserError: Safety-Gymnasium has no such id with a vector observation, or ends its episodes before `horizon`.
    """
    safety_gymnasium = import_safety_gymnasium()
    # ids with images (Vision) or keyboard control (Debug) are left out: policies here observe vectors
    known = [i for i in safety_gymnasium.utils.registration.safe_registry if "Vision" not in i and "Debug" not in i]
    if env_id not in known:
        near = difflib.get_close_matches(env_id, known, n=5, cutoff=0.5) or sorted(known)[:5]
        raise UserError(
            f"{id_key} is {env_id!r}, which is no Safety-Gymnasium task with a vector observation; "
            f"the nearest ids are {', '.join(near)}."
        )
    limit = int(safety_gymnasium.utils.registration.spec(env_id).max_episode_steps)
    if horizon is not None and not 1 <= horizon <= limit:
        raise UserError(f"{horizon_key} is {horizon}; an episode of {env_id} has 1 to {limit} steps.")
    return limit if horizon is None else horizon
