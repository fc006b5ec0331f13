"""Lightning callbacks of cmaml_pl; each of them serves one purpose."""

from cmaml_callbacks.best_checkpoint import BestCheckpoint
from cmaml_callbacks.eta import Eta
from cmaml_callbacks.graceful_stop import GracefulStop
from cmaml_callbacks.health import Health
from cmaml_callbacks.last_checkpoint import LastCheckpoint
from cmaml_callbacks.last_validation import LastValidation
from cmaml_callbacks.learning_curves import LearningCurves
from cmaml_callbacks.metrics_csv import MetricsCSV
from cmaml_callbacks.progress import MetaProgress
from cmaml_callbacks.reward_critic import RewardCritic
from cmaml_callbacks.safeguard import Safeguard
from cmaml_callbacks.safety_critic import SafetyCritic
from cmaml_callbacks.throughput import Throughput
from cmaml_callbacks.wandb_metrics import WandbMetrics

__all__ = [
    "BestCheckpoint",
    "Eta",
    "GracefulStop",
    "Health",
    "LastCheckpoint",
    "LastValidation",
    "LearningCurves",
    "MetaProgress",
    "MetricsCSV",
    "RewardCritic",
    "Safeguard",
    "SafetyCritic",
    "Throughput",
    "WandbMetrics",
]
