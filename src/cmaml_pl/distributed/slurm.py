"""SLURM: the signal that the time of a job is nearly over, and how the job is put in the queue again."""

import os
import signal
import subprocess

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment


def find_requeue_signal() -> signal.Signals | None:
    """The signal by which SLURM says that the job is to be requeued; None where no job is to be.

    Lightning looks for its environments in the same order: torchrun may have started this process within a SLURM job.
    """
    if TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return None
    environment = SLURMEnvironment()
    return environment.requeue_signal if environment.auto_requeue else None


def requeue_slurm_job() -> str:
    """Ask SLURM to start the job of this process again, as Lightning does; what SLURM says against it, or nothing.

    SLURM may end the process from then on.
    """
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else str(SLURMEnvironment.job_id())
    command = ["scontrol", "requeue", job]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{' '.join(command)}: {error.strerror}"
    return f"{' '.join(command)}: {(result.stderr or result.stdout).strip()}" if result.returncode else ""
