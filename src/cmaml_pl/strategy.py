"""Lightning's DDP for a module that brings its ranks together itself."""

from lightning.pytorch.strategies import DDPStrategy


class RanksStrategy(DDPStrategy):
    """Processes and their group as in Lightning's DDP, by gloo, without DistributedDataParallel around the module.

    That would average the gradients of every backward pass, each time of all parameters. Here the meta-gradient is no
    backward pass's, and each critic has a backward pass of its own: what has to be brought together, and with which
    weights, is known where it is computed (`cmaml_pl.ranks`). Parameters start alike, from the seed or the checkpoint.
    """

    def __init__(self) -> None:
        super().__init__(process_group_backend="gloo")

    def configure_ddp(self) -> None:
        """Leave the module as it is."""
