"""Lists every method and task family by its name in the configuration; a new one adds one line here.

Each entry is a frozen dataclass. Its fields are the keys of the configuration's section that names it.
"""

from collections.abc import Mapping

from cmaml_pl.inner.base import InnerMethod
from cmaml_pl.inner.cpo import CPO
from cmaml_pl.inner.pcpo import PCPO
from cmaml_pl.inner.trpo import TRPO
from cmaml_pl.inner.trpo_lag import TRPOLag
from cmaml_pl.outer.base import OuterMethod
from cmaml_pl.outer.fomaml import FOMAML
from cmaml_pl.outer.maml import MAML
from cmaml_pl.outer.pooled import Pooled
from cmaml_pl.outer.reptile import Reptile
from cmaml_pl.tasks.base import TaskFamily
from cmaml_pl.tasks.constraint import ConstraintFamily
from cmaml_pl.tasks.dynamics import DynamicsFamily
from cmaml_pl.tasks.hidden_body import HiddenBodyFamily
from cmaml_pl.tasks.hidden_goal import HiddenGoalFamily
from cmaml_pl.tasks.layout import LayoutFamily
from cmaml_pl.tasks.nav2d import Nav2DFamily
from cmaml_pl.tasks.target_direction import TargetDirectionFamily
from cmaml_pl.tasks.target_velocity import TargetVelocityFamily

INNER_METHODS: Mapping[str, type[InnerMethod]] = {"cpo": CPO, "pcpo": PCPO, "trpo": TRPO, "trpo_lag": TRPOLag}
OUTER_METHODS: Mapping[str, type[OuterMethod]] = {"fomaml": FOMAML, "maml": MAML, "pooled": Pooled, "reptile": Reptile}
TASK_FAMILIES: Mapping[str, type[TaskFamily]] = {
    "constraint": ConstraintFamily,
    "dynamics": DynamicsFamily,
    "hidden_body": HiddenBodyFamily,
    "hidden_goal": HiddenGoalFamily,
    "layout": LayoutFamily,
    "nav2d": Nav2DFamily,
    "target_direction": TargetDirectionFamily,
    "target_velocity": TargetVelocityFamily,
}
