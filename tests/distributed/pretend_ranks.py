"""Trains in several processes, each with a pretend device: python -m tests.distributed.pretend_ranks key=value ..."""

import sys
from unittest.mock import patch

import pytest
import torch
from tests.pretend_device import trainers_use_it

from cmaml_pl.cli import main
from cmaml_pl.distributed.strategy import RanksStrategy


class PretendRanks(RanksStrategy):
    """Connects the processes as for CPUs, because PyTorch knows the devices that its backends serve."""

    def setup_distributed(self) -> None:
        """DDPStrategy's."""
        with patch.object(type(self), "root_device", torch.device("cpu")):
            super().setup_distributed()


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patches, trainers_use_it(patches, PretendRanks()):
        main(["train", *sys.argv[1:]])
