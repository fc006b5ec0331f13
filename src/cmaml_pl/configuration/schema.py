"""Every section of the configuration, with its defaults, their units and their sources.

The sections `tasks`, `inner` and `outer` are the fields of the family and of the methods that `tasks.family`,
`inner.method` and `outer.method` name in the registry.
"""

from dataclasses import dataclass, field
from typing import Any

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import InnerMethod
from cmaml_pl.inner.trpo_lag import TRPOLag
from cmaml_pl.outer.base import OuterMethod
from cmaml_pl.outer.fomaml import FOMAML
from cmaml_pl.outer.safety import WEIGHTS
from cmaml_pl.tasks.base import TaskFamily
from cmaml_pl.tasks.layout import LayoutFamily


@dataclass(frozen=True)
class RunConfig:
    """Where a run lives: `dir`/EXP/`id`."""

    dir: str = "runs"
    id: str | None = None  # a new one from the date, the seed and four random letters
    resume: str | None = None  # a checkpoint or run folder to go on from, or auto: the folder of `id` if it has begun
    torch_threads: int = bounded(1, low=1)  # of updates; 64 units leave nothing to share, and digits depend on it


@dataclass(frozen=True)
class TrainConfig:
    """The length of meta-training and what happens along it, counted in meta-iterations."""

    meta_iterations: int = bounded(100, low=1)  # total: a resumed run goes on up to it
    tasks_per_batch: int = bounded(16, low=1)  # B; with fewer, point_goal spends more on TorchRL than on its physics
    validate_every: int = bounded(10, low=1)
    # Meta-iterations in a row that may be dropped, for numbers that are not finite, before the run stops. The policy
    # stays as it was, so that only the draws of tasks and noise differ from one to the next: where chance spoils every
    # second one, ten in a row are one in a thousand, and each costs as much time as a good one.
    max_dropped: int = bounded(10, low=1)


@dataclass(frozen=True)
class RolloutConfig:
    """Experience of one task in one rollout: `envs_per_task` episodes of `horizon` steps."""

    envs_per_task: int = bounded(8, low=1)  # many short episodes tell more of a rare cost
    horizon: int = bounded(1000, low=1)  # H; Safety-Gymnasium's own
    workers: int | None = bounded(None, low=1)  # threads or processes that step the worlds; one a core


@dataclass(frozen=True)
class PolicyConfig:
    """The Gaussian actor."""

    hidden: list[int] = bounded([64, 64], low=1)  # tanh layers (OmniSafe)
    init_log_std: float = -0.5  # (OmniSafe)


@dataclass(frozen=True)
class CriticConfig:
    """The reward critic and the safety critic."""

    hidden: list[int] = bounded([64, 64], low=1)  # tanh layers (OmniSafe)
    shared_reward: bool = True  # tasks share a reward critic, which each corrects; if not, each fits its own alone
    gamma: float = bounded(0.99, low=0, high=1)  # discount of the reward (OmniSafe)
    cost_gamma: float = bounded(0.99, low=0, high=1)  # discount of the cost (OmniSafe)
    gae_lambda: float = bounded(0.95, low=0, high=1)  # (OmniSafe)
    ridge: float = bounded(0.03, above=0)  # of each task's linear correction; chosen, not tuned
    lr: float = bounded(1.0e-3, above=0)  # Adam (OmniSafe)
    passes: int = bounded(2, low=1)  # over a meta-iteration's data; with 10 (OmniSafe) V_C learns its tasks by heart
    minibatch: int = bounded(1024, low=1)  # samples; larger than OmniSafe's 128, for speed


@dataclass(frozen=True)
class SafetyConfig:
    """The safety term of the outer update, w(eta) grad E[log pi A_C], and its multiplier eta."""

    eta: float = bounded(0.0, low=0)  # first value
    eta_lr: float = bounded(0.02, low=0)  # per unit of episode cost, tuned on point_goal; 0 keeps eta as it is
    eta_max: float = bounded(2.0, low=0)  # largest eta; at 16 a policy on PointGoal1 stopped moving
    weighting: str = bounded("ratio", choices=WEIGHTS)  # w(eta) = eta / (1 + eta), or "raw": eta
    dead_band: bool = True  # act only while the meta-policy costs more than the limit; else it ends up doing nothing
    log_std: bool = False  # whether the term moves the exploration noise as well


@dataclass(frozen=True)
class LoggerConfig:
    """Weights & Biases."""

    wandb: str = bounded("auto", choices=("auto", "offline", "online", "disabled"))  # auto: online where a key is
    entity: str | None = None  # a team or user; W&B's own default
    project: str = "cmaml_pl"
    id: str | None = None  # of the W&B run; `exp`-`run.id`, or what a sweep agent gives
    group: str | None = None


@dataclass(frozen=True)
class Config:
    """A whole experiment."""

    exp: str = "point_goal"
    arm: str | None = None  # of a comparison: the name of the file in conf/arm that is laid over the experiment
    seed: int = bounded(0, low=0)
    quiet: bool = False  # no progress and no tables on the terminal; warnings and errors all the same
    run: RunConfig = field(default_factory=RunConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    safety: SafetyConfig = field(default_factory=SafetyConfig)
    tasks: TaskFamily = field(default_factory=LayoutFamily)
    inner: InnerMethod = field(default_factory=TRPOLag)
    outer: OuterMethod = field(default_factory=FOMAML)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    trainer: dict[str, Any] = field(default_factory=dict)  # goes to Lightning's Trainer as it is
