"""The benchmark of how much of a meta-gradient is signal."""

import pytest
import torch
from benchmarks.meta_gradient import common, main
from tests.integration.runs import DISABLED, TINY

from cmaml_pl import cli


def test_what_rows_have_in_common_is_found_among_noise():
    """Rows of a known signal and noise: the share of the signal in a row's squared length."""
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(2, 1, 500, generator=generator)
    noise = torch.randn(2, 200, 500, generator=generator)
    rows = torch.tensor([0.5, 0.0])[:, None, None] * signal + noise
    found = common(rows, rows)
    torch.testing.assert_close(found, torch.tensor([0.2, 0.0]), atol=0.02, rtol=0.0)  # 0.25 / (0.25 + 1)
    assert float(common(rows, -rows)[0]) < -0.15


def test_it_measures_a_run(tmp_path, capsys):
    cli.main(["train", "exp=nav2d", "run.id=a", f"run.dir={tmp_path}", "quiet=true", *TINY, *DISABLED, "inner.steps=2"])
    run = str(tmp_path / "nav2d/a")
    main([run, "--batches", "2", "--ridge", "0.5", "--gae-lambda", "0.9"])
    cells = capsys.readouterr().out.splitlines()[-2].split("│")
    assert cells[1].strip() == "0.5"
    assert all(-1 <= float(cell) <= 1 for cell in cells[2:-1])
    with pytest.raises(SystemExit, match="2"):
        main([run, "--batches", "3"])
    assert "--batches 3 needs 6 training tasks; the run has 4" in capsys.readouterr().err


def test_a_run_that_is_not_there_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "nothing")])
    error = capsys.readouterr().err
    assert "nothing" in error
    assert "Traceback" not in error
