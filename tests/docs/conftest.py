import pytest
from tests.commands import cmaml
from tests.integration.runs import DISABLED, TINY

from cmaml_pl.runs.folder import RunFolder


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run of two meta-iterations of nav2d, to be left as it is."""
    start = tmp_path_factory.mktemp("trained")
    cmaml("train", "exp=nav2d", "run.id=a", *TINY, *DISABLED, cwd=start)
    return RunFolder(start / "runs/nav2d/a")
