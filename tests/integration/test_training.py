"""The verb train: what it leaves, and that its numbers depend on the configuration alone."""

import pytest
import torch
from tests.commands import cmaml
from tests.integration.runs import DISABLED, TINY, assert_same_parameters, assert_same_run, final_state, lines

from cmaml_pl.configuration.loading import experiments
from cmaml_pl.runs.folder import RunFolder

RECORDED = (
    *("pre/return", "pre/cost", "post/return", "post/cost", "post/violation_rate", "eta", "lambda/mean"),
    *("inner/kl", "inner/rejected_steps", "inner/infeasible_steps"),
    *("safety_critic/loss", "safety_critic/explained_variance", "safety_critic/episode_cost"),
    *("throughput/env_steps_per_s", "throughput/env_steps"),
    *("val/post/return", "val/post/cost", "val/pre/return", "val/pre/cost"),
)


@pytest.mark.parametrize("exp", experiments())
def test_every_experiment_trains_two_tiny_iterations_and_leaves_its_files(exp, tmp_path):
    printed = cmaml("train", f"exp={exp}", "run.id=a", "logger.wandb=offline", *TINY, cwd=tmp_path, pictures=True)
    folder = tmp_path / "runs" / exp / "a"
    for name in ("config.yaml", "metrics.csv", "checkpoints/last.ckpt", "learning_curves.png"):
        assert (folder / name).stat().st_size > 0
    assert len(list(folder.glob("wandb/offline-run-*/run-*.wandb"))) == 1
    assert "learning_curves.png" in printed
    assert "Warning" not in printed
    rows = lines(folder / "metrics.csv")
    assert [row["iteration"] for row in rows] == ["1", "2"]
    for name in RECORDED:
        assert torch.isfinite(torch.tensor(float(rows[-1][name]))), name
    assert float(rows[-1]["throughput/env_steps"]) == 2 * 2 * 2 * 2 * 20  # iterations, rollouts, tasks, envs, horizon


def test_commands_that_a_user_types_train_go_on_measure_and_export(trained, tmp_path):
    """Each starts a Python of its own, as nearly all other tests' do not."""
    start = ("train", "exp=nav2d", "run.id=a", *TINY, *DISABLED)
    cmaml(*start, "train.meta_iterations=1", cwd=tmp_path, anew=True)
    go_on = ("train", "run.resume=runs/nav2d/a", "train.meta_iterations=2")
    assert "2/2" in cmaml(*go_on, cwd=tmp_path, anew=True)
    assert_same_parameters(RunFolder(tmp_path / "runs/nav2d/a"), trained)
    assert "fomaml+trpo_lag" in cmaml("evaluate", "run=runs/nav2d/a", "steps=1", cwd=tmp_path, anew=True)
    assert "largest difference" in cmaml("export", "ckpt=runs/nav2d/a", cwd=tmp_path, anew=True)


def test_a_run_that_stops_and_resumes_equals_one_that_does_not(tmp_path):
    cmaml("train", "exp=nav2d", "run.id=whole", *TINY, *DISABLED, "train.meta_iterations=4", cwd=tmp_path)
    whole, folder = (RunFolder(tmp_path / "runs/nav2d" / name) for name in ("whole", "parts"))
    start = ["exp=nav2d", "run.id=parts", "logger.wandb=offline", *TINY]
    cmaml("train", *start, "train.meta_iterations=2", cwd=tmp_path)
    early = folder.last_checkpoint.read_bytes()
    cmaml("train", "exp=nav2d", f"run.resume={folder.last_checkpoint}", "train.meta_iterations=3", cwd=tmp_path)
    folder.last_checkpoint.write_bytes(early)  # as if the third had been lost with its checkpoint, not its metrics
    cmaml("train", f"run.resume={folder.last_checkpoint}", "train.meta_iterations=4", cwd=tmp_path, pictures=True)
    assert_same_run(folder, whole)
    last = lines(folder.metrics)[-1]
    assert float(last["eta"]) > 0
    assert float(last["lambda/mean"]) > 0
    stretches = [path.name.partition("-nav2d-parts-") for path in folder.path.glob("wandb/offline-run-*")]
    assert len(stretches) == 3
    assert len({suffix for _, _, suffix in stretches if suffix}) == 1  # of one W&B run


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(trained, tmp_path):
    for seed in (0, 1):
        cmaml("train", "exp=nav2d", *DISABLED, *TINY, f"run.id=s{seed}", f"seed={seed}", cwd=tmp_path)
    first, other = (RunFolder(tmp_path / f"runs/nav2d/s{seed}") for seed in (0, 1))
    assert_same_parameters(first, trained)
    name = "actor.mean.0.weight"
    assert not torch.equal(final_state(other.path)[name], final_state(trained.path)[name])


def test_an_arm_is_named_in_its_run_and_kept_in_its_configuration(tmp_path):
    printed = cmaml("train", "exp=nav2d", "arm=pretrain", *DISABLED, *TINY, cwd=tmp_path)
    (folder,) = (tmp_path / "runs/nav2d").iterdir()
    assert "nav2d, pretrain, seed 0" in printed
    assert "-pretrain-s0-" in folder.name
    assert "arm: pretrain" in (folder / "config.yaml").read_text()
    assert {row["eta"] for row in lines(folder / "metrics.csv")} == {"0.0"}
    checkpoint = folder / "checkpoints/last.ckpt"
    cmaml("train", "arm=pretrain", f"run.resume={checkpoint}", "train.meta_iterations=3", cwd=tmp_path)
    assert len(lines(folder / "metrics.csv")) == 3
    cmaml("evaluate", f"run={folder}", cwd=tmp_path)
    assert len(lines(folder / "evaluation.csv")) == 2 * 2 * 2


def test_without_a_limit_nothing_restrains_and_nothing_breaks(tmp_path):
    free = [*TINY, "inner.cost_limit=.inf", "safety.eta=0.5"]
    printed = cmaml("train", "exp=nav2d", "run.id=a", *DISABLED, *free, cwd=tmp_path, pictures=True)
    assert "limit inf" in printed
    folder = tmp_path / "runs/nav2d/a"
    cmaml("train", f"run.resume={folder}", "train.meta_iterations=3", cwd=tmp_path)
    rows = lines(folder / "metrics.csv")
    assert len(rows) == 3
    assert {row["lambda/mean"] for row in rows} == {"0.0"}
    assert {row["eta"] for row in rows[1:]} == {"0.0"}
    assert all(torch.tensor(float(cell)).isfinite() for row in rows for cell in row.values() if cell)
    assert float(rows[-1]["health/dropped_tasks"]) == float(rows[-1]["health/dropped_iterations"]) == 0
    cmaml("evaluate", f"run={folder}", cwd=tmp_path)
    assert {(row["cost_limit"], row["violated"]) for row in lines(folder / "evaluation.csv")} == {("inf", "0")}
    assert (folder / "finetuning.png").stat().st_size > 0


def test_training_can_be_asked_for_again_and_be_quiet(tmp_path):
    command = ("train", "exp=nav2d", "run.id=a", "run.resume=auto", *DISABLED, *TINY)
    folder = RunFolder(tmp_path / "runs/nav2d/a")
    assert cmaml(*command, "train.meta_iterations=1", "quiet=true", cwd=tmp_path) == ""
    first = folder.last_checkpoint.read_bytes()
    assert "has done its 1 meta-iterations" in cmaml(*command, "train.meta_iterations=1", cwd=tmp_path)
    assert folder.last_checkpoint.read_bytes() == first
    assert "2/2" in cmaml(*command, cwd=tmp_path)
    assert len(lines(folder.metrics)) == 2
    assert "3/3" in cmaml("train", f"run.resume={folder.path}", "train.meta_iterations=3", cwd=tmp_path)
