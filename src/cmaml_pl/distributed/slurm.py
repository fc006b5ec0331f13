"""SLURM: finds the signal that a job's time is nearly over, and puts the job in the queue again."""

import os
import signal
import subprocess

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment


def find_requeue_signal() -> signal.Signals | None:
    """The signal by which SLURM tells that this job's time is nearly over; None if no job is to be requeued.

    torchrun may have started this process within a SLURM job. torchrun is therefore checked first, as in Lightning.
    """
    if TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return None
    environment = SLURMEnvironment()
    return environment.requeue_signal if environment.auto_requeue else None


def requeue_slurm_job() -> str:
    """Ask SLURM to start the job of this process again, as Lightning does.

    After this call SLURM may end the process at any time.

    Returns:
        The command and the reason why SLURM refuses; empty if it accepts.
    """
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else str(SLURMEnvironment.job_id())
    command = ["scontrol", "requeue", job]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{' '.join(command)}: {error.strerror}"
    return f"{' '.join(command)}: {(result.stderr or result.stdout).strip()}" if result.returncode else ""
