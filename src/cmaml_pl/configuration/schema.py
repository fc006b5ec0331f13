"""Every section of the configuration, with its defaults, their units and their sources.

The keys of the sections `tasks`, `inner`, `outer` and `deployment` are the fields of a dataclass in the registry, which
`tasks.family`, `inner.method`, `outer.method` and `deployment.method` choose.
"""

from dataclasses import dataclass, field
from typing import Any

from cmaml_pl.bounds import bounded
from cmaml_pl.deployment.base import Adapted, Deployment
from cmaml_pl.inner.base import InnerMethod
from cmaml_pl.inner.trpo_lag import TRPOLag
from cmaml_pl.outer.base import OuterMethod
from cmaml_pl.outer.fomaml import FOMAML
from cmaml_pl.outer.safety import WEIGHTS
from cmaml_pl.tasks.base import TaskFamily
from cmaml_pl.tasks.layout import LayoutFamily


@dataclass(frozen=True)
class RunConfig:
    """The folder of a run, `dir`/EXP/`id`, and how the run starts."""

    dir: str = "runs"  # of all runs
    id: str | None = None  # null: made from the date, the arm, the seed and four random hexadecimal digits
    label: str | None = None  # what the run's method is called in comparisons; null: `arm` or, without one, its methods
    resume: str | None = None  # a checkpoint or run folder to continue; auto: the run `id`, if it has a checkpoint
    torch_threads: int = bounded(1, low=1)  # of updates; more do not help layers of 64 units, and change last digits


@dataclass(frozen=True)
class TrainConfig:
    """The length of meta-training, the size of a batch, and how often things happen, counted in meta-iterations."""

    meta_iterations: int = bounded(100, low=1)  # in total: a resumed run continues up to this number
    tasks_per_batch: int = bounded(16, low=1)  # B; with fewer, point_goal spends more time in TorchRL than in physics
    distinct_tasks: int | None = bounded(None, low=1)  # batches hold only the first so many training tasks; null: all
    validate_every: int = bounded(10, low=1)  # adapt to the validation tasks each time so many are done
    # The run stops after this many dropped meta-iterations in a row. A meta-iteration is dropped if a number in it is
    # not finite. The policy then stays as it was, so that the next one differs only in its random tasks and noise. If
    # chance spoils every second one, ten in a row happen once in a thousand; each costs as much time as a good one.
    max_dropped: int = bounded(10, low=1)


@dataclass(frozen=True)
class RolloutConfig:
    """The experience of one task in one rollout: `envs_per_task` episodes of `horizon` steps."""

    envs_per_task: int = bounded(8, low=1)  # many short episodes show more of a rare cost than few long ones
    horizon: int = bounded(1000, low=1)  # H, steps (Safety-Gymnasium)
    workers: int | None = bounded(None, low=1)  # that step worlds, and threads that share updates; null: one per core


GAUSSIAN = "gaussian"
"""The value of policy.actor for the network of this package."""


@dataclass(frozen=True)
class PolicyConfig:
    """The actor. `hidden`, `init_log_std` and `context` are those of GAUSSIAN."""

    actor: str = GAUSSIAN  # or MODULE:CLASS, a network of your own, made of the sizes of observation and action
    options: dict[str, Any] = field(default_factory=dict)  # further arguments of a network of your own
    hidden: list[int] = bounded([64, 64], low=1)  # tanh layers (OmniSafe)
    init_log_std: float = -0.5  # (OmniSafe)
    # Length of the context, an input that is the same in all states (CAVIA). Adaptation moves it with the weights or,
    # with inner.trust_region.parameters=context, alone.
    context: int = bounded(0, low=0)


@dataclass(frozen=True)
class ExplorationConfig:
    """Worlds with a context of their own, see `algorithm/exploration.py`; the values are tuned on hidden_goal."""

    std: float = bounded(0.0, low=0)  # of the contexts before adaptation; 0: all worlds of a task have the same one
    decay: float = bounded(0.5, low=0, high=1)  # factor on std with each adaptation step
    temperature: float = bounded(0.1, above=0)  # of the worlds' shares in the context's step
    informed: float = bounded(0.0, low=0, high=1)  # share of a meta-batch's tasks whose context tells what is hidden


@dataclass(frozen=True)
class CriticConfig:
    """The reward critic and the safety critic."""

    hidden: list[int] = bounded([64, 64], low=1)  # tanh layers (OmniSafe)
    shared_reward: bool = True  # true: each task corrects a shared reward critic; false: each task fits only its own
    gamma: float = bounded(0.99, low=0, high=1)  # discount of the reward (OmniSafe)
    cost_gamma: float = bounded(0.99, low=0, high=1)  # discount of the cost (OmniSafe)
    gae_lambda: float = bounded(0.95, low=0, high=1)  # (OmniSafe)
    ridge: float = bounded(0.03, above=0)  # penalty of each task's linear correction; chosen, not tuned
    lr: float = bounded(1.0e-3, above=0)  # Adam (OmniSafe)
    passes: int = bounded(2, low=1)  # over a meta-iteration's data; with 10 (OmniSafe) V_C overfits to its tasks
    minibatch: int = bounded(1024, low=1)  # samples; larger than OmniSafe's 128, for speed
    samples: int = bounded(131_072, low=1)  # at most; from a larger meta-batch, this many are drawn at random


@dataclass(frozen=True)
class SafetyConfig:
    """The safety term of the outer update, w(eta) grad E[log pi A_C], and its multiplier eta."""

    eta: float = bounded(0.0, low=0)  # first value
    eta_lr: float = bounded(0.02, low=0)  # per unit of episode cost; chosen, not tuned; 0 keeps eta as it is
    eta_max: float = bounded(2.0, low=0)  # largest eta; at 16 a policy on PointGoal1 stopped moving
    critic: bool = True  # false: A_C of the term is the cost that follows, and eta follows measured costs
    weighting: str = bounded("ratio", choices=WEIGHTS)  # w(eta) = eta / (1 + eta), or "raw": eta
    margin: float = bounded(1.0, above=0, high=1)  # share of the limit for eta and the dead band (the paper: 1)
    dead_band: bool = True  # act only while the meta-policy costs more than margin d; if not, it learns to do nothing
    log_std: bool = False  # whether the term moves the exploration noise as well


@dataclass(frozen=True)
class LoggerConfig:
    """Weights & Biases, and further loggers beside it."""

    wandb: str = bounded("auto", choices=("auto", "offline", "online", "disabled"))  # auto: online if there is a key
    entity: str | None = None  # a team or user; null: W&B's default
    project: str = "cmaml_pl"  # W&B's, which holds the runs
    id: str | None = None  # of the W&B run; null: `exp`-`run.id`; a sweep agent sets its own
    group: str | None = None  # W&B's, in which it shows runs together; null: none
    tensorboard: bool = False  # true: event files in the run folder, too; needs the package tensorboard
    others: list[Any] = field(default_factory=list)  # Lightning's loggers: MODULE:CLASS, or {class: ..., ARGUMENT: ...}


@dataclass(frozen=True)
class Config:
    """The configuration of a whole run."""

    exp: str = "point_goal"  # the experiment: the name of a file in conf/exp, or a YAML file of your own
    arm: str | None = None  # a method in a comparison: the file of this name in conf/arm overrides the experiment's
    seed: int = bounded(0, low=0)  # from which every random number is derived
    quiet: bool = False  # true: no progress and no tables on the terminal; warnings and errors are still printed
    run: RunConfig = field(default_factory=RunConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    safety: SafetyConfig = field(default_factory=SafetyConfig)
    tasks: TaskFamily = field(default_factory=LayoutFamily)
    inner: InnerMethod = field(default_factory=TRPOLag)
    outer: OuterMethod = field(default_factory=FOMAML)
    deployment: Deployment = field(default_factory=Adapted)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    # Further arguments of Lightning's Trainer. `callbacks` come after the project's own; written as logger.others are.
    trainer: dict[str, Any] = field(default_factory=dict)
