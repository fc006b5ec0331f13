"""What a measurement was made on."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cmaml_pl.cores import usable_cores

PACKAGES = ("torch", "torchrl", "mujoco", "numpy", "gymnasium", "safety-gymnasium", "stable-baselines3")


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name."""
    try:
        lines = [line.partition(":") for line in cpuinfo.read_text().splitlines()]
    except OSError:  # not Linux
        lines = []
    names = [value.strip() for key, _, value in lines if key.strip() == "model name"]
    return names[0] if names else platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """A description of the machine, of its load (processes over 1, 5 and 15 minutes) and of the packages' versions."""
    return {
        "cpus": usable_cores(),
        "processor": processor(),
        "load": list(os.getloadavg()),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package.replace("-", "_"): _version(package) for package in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def in_words() -> str:
    """The machine in a line: processor, cores and load."""
    found = machine()
    load = ", ".join(f"{one:.2f}" for one in found["load"])
    return f"{found['processor']}, {found['cpus']} cores, load {load} (1, 5 and 15 minutes)"
