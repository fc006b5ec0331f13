"""Lists all methods, task families and strategies of deployment by their names in the configuration, one a line.

Each entry is a frozen dataclass. Its fields are the keys of the configuration's section that names it. Methods and
families of other packages are found by an entry point or by their import path, see Registry.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from cmaml_pl.deployment.base import Adapted, Deployment
from cmaml_pl.deployment.mixture import Mixture
from cmaml_pl.errors import UserError
from cmaml_pl.imports import import_object
from cmaml_pl.inner.base import InnerMethod
from cmaml_pl.inner.cpo import CPO
from cmaml_pl.inner.crpo import CRPO
from cmaml_pl.inner.focops import FOCOPS
from cmaml_pl.inner.p3o import P3O
from cmaml_pl.inner.pcpo import PCPO
from cmaml_pl.inner.ppo_lag import PPOLag
from cmaml_pl.inner.safemeta import SafeMetaAdaptation
from cmaml_pl.inner.trpo import TRPO
from cmaml_pl.inner.trpo_lag import TRPOLag
from cmaml_pl.outer.base import OuterMethod
from cmaml_pl.outer.fomaml import FOMAML
from cmaml_pl.outer.fomaml_trpo import FOMAMLTRPO
from cmaml_pl.outer.maml import MAML
from cmaml_pl.outer.meta_cpo import MetaCPO
from cmaml_pl.outer.meta_srl import MetaSRL
from cmaml_pl.outer.pooled import Pooled
from cmaml_pl.outer.reptile import Reptile
from cmaml_pl.outer.safemeta import SafeMeta
from cmaml_pl.tasks.base import TaskFamily
from cmaml_pl.tasks.constraint import ConstraintFamily
from cmaml_pl.tasks.dynamics import DynamicsFamily
from cmaml_pl.tasks.gymnasium import GymnasiumFamily
from cmaml_pl.tasks.hidden_body import HiddenBodyFamily
from cmaml_pl.tasks.hidden_goal import HiddenGoalFamily
from cmaml_pl.tasks.layout import LayoutFamily
from cmaml_pl.tasks.nav2d import Nav2DFamily
from cmaml_pl.tasks.target_direction import TargetDirectionFamily
from cmaml_pl.tasks.target_velocity import TargetVelocityFamily
from cmaml_pl.tasks.torchrl import TorchRLFamily


@cache
def _offered(group: str) -> Mapping[str, str]:
    """Name -> import path of what installed packages offer."""
    return {point.name: point.value for point in sorted(entry_points(group=group))}


class Registry(Mapping[str, type[Any]]):
    """Name -> class. Names are those of this package, those of installed packages, and import paths, MODULE:CLASS.

    A package offers a class under a name by an entry point in the group `group`. A module is also looked for in the
    current folder. Iteration gives the names without the import paths.

    Args:
        key: the configuration's key that chooses among the classes.
        kind: what all of them inherit from.
        group: group of the entry points.
        own: name -> class of this package.
    """

    def __init__(self, key: str, kind: type[Any], group: str, own: Mapping[str, type[Any]]) -> None:
        self.key, self.kind, self.group, self.own = key, kind, group, own

    @property
    def selector(self) -> str:
        """The name of `key` within its section."""
        return self.key.partition(".")[2]

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from _offered(self.group)

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (":" in name or name in list(self))

    def __getitem__(self, name: str) -> type[Any]:
        """The class of a name.

        Raises:
            KeyError: there is no such name.
            UserError: the class cannot be imported, or is none that can be used here.
        """
        if name in self.own:
            return self.own[name]
        if ":" in name:
            return self._import(name, name)
        return self._import(name, _offered(self.group)[name])

    def _import(self, name: str, path: str) -> type[Any]:
        found = import_object(self.key, path)
        if not (isinstance(found, type) and issubclass(found, self.kind) and dataclasses.is_dataclass(found)):
            raise UserError(f"{self.key} is {name!r}, but must be a dataclass that inherits from {self.kind.__name__}.")
        return found


INNER_METHODS = Registry(
    "inner.method",
    InnerMethod,
    "cmaml_pl.inner_methods",
    {
        "cpo": CPO,
        "crpo": CRPO,
        "focops": FOCOPS,
        "p3o": P3O,
        "pcpo": PCPO,
        "ppo_lag": PPOLag,
        "safemeta": SafeMetaAdaptation,
        "trpo": TRPO,
        "trpo_lag": TRPOLag,
    },
)
OUTER_METHODS = Registry(
    "outer.method",
    OuterMethod,
    "cmaml_pl.outer_methods",
    {
        "fomaml": FOMAML,
        "fomaml_trpo": FOMAMLTRPO,
        "maml": MAML,
        "meta_cpo": MetaCPO,
        "meta_srl": MetaSRL,
        "pooled": Pooled,
        "reptile": Reptile,
        "safemeta": SafeMeta,
    },
)
DEPLOYMENTS = Registry(
    "deployment.method",
    Deployment,
    "cmaml_pl.deployments",
    {
        "adapted": Adapted,
        "mixture": Mixture,
    },
)
TASK_FAMILIES = Registry(
    "tasks.family",
    TaskFamily,
    "cmaml_pl.task_families",
    {
        "constraint": ConstraintFamily,
        "dynamics": DynamicsFamily,
        "gymnasium": GymnasiumFamily,
        "hidden_body": HiddenBodyFamily,
        "hidden_goal": HiddenGoalFamily,
        "layout": LayoutFamily,
        "nav2d": Nav2DFamily,
        "target_direction": TargetDirectionFamily,
        "target_velocity": TargetVelocityFamily,
        "torchrl": TorchRLFamily,
    },
)
REGISTRIES = {"tasks": TASK_FAMILIES, "inner": INNER_METHODS, "outer": OUTER_METHODS, "deployment": DEPLOYMENTS}
"""Section of the configuration -> what it chooses from."""
