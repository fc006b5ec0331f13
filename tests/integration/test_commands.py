"""The real commands, small, in processes of their own."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cmaml_pl.configuration.loading import experiments

TINY = [
    "train.meta_iterations=2",
    "train.tasks_per_batch=2",
    "train.validate_every=2",
    "tasks.train=4",
    "tasks.validation=3",
    "tasks.test=2",
    "rollout.envs_per_task=2",
    "rollout.horizon=20",
    "inner.steps=1",
    # so that lambda, eta and the safety term have work
    "inner.cost_limit=0",
    "safety.dead_band=false",
    "safety.eta_lr=0.05",
]
DISABLED = ["logger.wandb=disabled"]


def cmaml(*arguments, cwd, env=None, code=0):
    """Run `python -m cmaml_pl`; assert the exit code and that no traceback is shown; return what was printed."""
    result = subprocess.run(
        [sys.executable, "-m", "cmaml_pl", *arguments],
        cwd=cwd,
        # without the address of a W&B service that this process may have started, in another folder
        env={**{k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"}, "WANDB_SILENT": "true", **(env or {})},
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    printed = result.stdout + result.stderr
    assert result.returncode == code, printed
    assert "Traceback" not in printed, printed
    return printed


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def final_state(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return state


@pytest.mark.parametrize("exp", experiments())
def test_every_experiment_trains_two_tiny_iterations_and_leaves_its_files(exp, tmp_path):
    printed = cmaml("train", f"exp={exp}", "run.id=a", "logger.wandb=offline", *TINY, cwd=tmp_path)
    folder = tmp_path / "runs" / exp / "a"
    for name in ("config.yaml", "metrics.csv", "checkpoints/last.ckpt", "learning_curves.png"):
        assert (folder / name).stat().st_size > 0
    assert len(list(folder.glob("wandb/offline-run-*/run-*.wandb"))) == 1
    assert "learning_curves.png" in printed
    assert "Warning" not in printed
    rows = lines(folder / "metrics.csv")
    assert [row["iteration"] for row in rows] == ["1", "2"]
    for name in (
        "pre/return",
        "pre/cost",
        "post/return",
        "post/cost",
        "post/violation_rate",
        "eta",
        "lambda/mean",
        "inner/kl",
        "inner/rejected_steps",
        "inner/infeasible_steps",
        "safety_critic/loss",
        "safety_critic/explained_variance",
        "safety_critic/episode_cost",
        "throughput/env_steps_per_s",
        "throughput/env_steps",
        "val/post/return",
        "val/post/cost",
        "val/pre/return",
        "val/pre/cost",
    ):
        assert torch.isfinite(torch.tensor(float(rows[-1][name]))), name
    assert float(rows[-1]["throughput/env_steps"]) == 2 * 2 * 2 * 2 * 20  # iterations, rollouts, tasks, envs, horizon


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of four iterations, and the folder that it was started in."""
    start = tmp_path_factory.mktemp("trained")
    cmaml("train", "exp=nav2d", "run.id=whole", "logger.wandb=disabled", *TINY, "train.meta_iterations=4", cwd=start)
    return start, start / "runs/nav2d/whole"


def test_a_run_that_stops_and_resumes_equals_one_that_does_not(trained, tmp_path):
    _, whole = trained
    start = ["exp=nav2d", "run.id=parts", "logger.wandb=offline", *TINY]
    cmaml("train", *start, "train.meta_iterations=2", cwd=tmp_path)
    folder = tmp_path / "runs/nav2d/parts"
    checkpoint = folder / "checkpoints/last.ckpt"
    early = checkpoint.read_bytes()
    cmaml("train", "exp=nav2d", f"run.resume={checkpoint}", "train.meta_iterations=3", cwd=tmp_path)
    checkpoint.write_bytes(early)  # as if the third iteration had been lost with its checkpoint, but not its metrics
    cmaml("train", f"run.resume={checkpoint}", "train.meta_iterations=4", cwd=tmp_path)
    timing = "throughput/env_steps_per_s"
    expected = [{k: v for k, v in row.items() if k != timing} for row in lines(whole / "metrics.csv")]
    found = [{k: v for k, v in row.items() if k != timing} for row in lines(folder / "metrics.csv")]
    assert found == expected
    assert float(found[-1]["eta"]) > 0
    assert float(found[-1]["lambda/mean"]) > 0
    state, other = final_state(whole), final_state(folder)
    assert state.keys() == other.keys()
    for name, value in state.items():
        assert torch.equal(value, other[name]), name
    assert len(list(folder.glob("wandb/offline-run-*-nav2d-parts"))) == 3  # stretches of one W&B run


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(trained, tmp_path):
    _, whole = trained
    common = ["exp=nav2d", "logger.wandb=disabled", *TINY]
    for seed in (0, 1):
        cmaml("train", *common, f"run.id=s{seed}", f"seed={seed}", "train.meta_iterations=4", cwd=tmp_path)
    first, other = final_state(tmp_path / "runs/nav2d/s0"), final_state(tmp_path / "runs/nav2d/s1")
    reference = final_state(whole)
    assert all(torch.equal(first[name], reference[name]) for name in reference)
    assert not torch.equal(other["actor.mean.0.weight"], reference["actor.mean.0.weight"])


def test_an_arm_is_named_in_its_run_and_kept_in_its_configuration(tmp_path):
    printed = cmaml("train", "exp=nav2d", "arm=pretrain", "logger.wandb=disabled", *TINY, cwd=tmp_path)
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


def test_evaluate_measures_every_step_on_test_tasks(trained):
    start, whole = trained
    printed = cmaml("evaluate", f"run={whole}", "steps=2", cwd=start)
    rows = lines(whole / "evaluation.csv")
    assert list(rows[0]) == [
        *("method", "seed", "task", "step", "env_steps"),
        *("return", "cost", "max_cost", "cost_limit", "violated", "score", "anytime_cost"),
    ]
    assert {row["method"] for row in rows} == {"fomaml+trpo_lag", "random"}
    assert {row["step"] for row in rows} == {"0", "1", "2"}
    assert {row["task"] for row in rows} == {"7", "8"}  # after 4 training and 3 validation tasks
    assert len(rows) == 2 * 3 * 2
    assert "fomaml+trpo_lag" in printed
    assert "no video: " in printed  # of nav2d
    assert "no score: there is no oracle among the runs: train one with ARM=oracle" in printed
    assert {row["score"] for row in rows} == {"nan"}
    heads = [line.split() for line in printed.splitlines() if line.startswith("arm ")]
    assert [(head[0], head[-1]) for head in heads] == [("arm", "%")]  # in one line: a file has no width to keep to
    assert (whole / "trajectories.png").stat().st_size > 0


def test_evaluate_compares_arms_over_seeds_and_measures_nothing_twice(trained):
    start, _ = trained
    for name, arguments in {"eta_off": ["safety.eta_lr=0"], "other_seed": ["seed=1", "arm=cmaml"]}.items():
        cmaml(
            "train", "exp=nav2d", f"run.id={name}", *DISABLED, *TINY, *arguments, "train.meta_iterations=1", cwd=start
        )
    runs = [f"runs/nav2d/{name}" for name in ("whole", "eta_off", "other_seed")]
    command = ("evaluate", f"run=[{','.join(runs)}]", "steps=1")
    printed = cmaml(*command, cwd=start)
    folder = start / "runs/nav2d/evaluations/whole+eta_off+other_seed-1steps"
    assert "5/5" in printed
    assert "Apart: the 95% interval of the difference" in " ".join(printed.split())
    rows = lines(folder / "evaluation.csv")
    assert {(row["method"], row["seed"]) for row in rows} == {
        ("fomaml+trpo_lag", "0"),
        ("fomaml+trpo_lag+eta_off", "0"),
        ("cmaml", "1"),
        ("random", "0"),
        ("random", "1"),
    }
    summary = lines(folder / "summary.csv")
    assert len(summary) == 4 * 2
    assert float(summary[0]["return_low"]) <= float(summary[0]["return"]) <= float(summary[0]["return_high"])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(before) == {
        *("evaluation.yaml", "evaluation.csv", "summary.csv", "comparison.csv"),
        *("finetuning.png", "scatter.png", "trajectories.png"),
    }
    printed = cmaml(*command, cwd=start)
    assert printed.count("measured before") == 5
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert cmaml(*command, "quiet=true", cwd=start) == ""
    assert "holds something else" in cmaml("evaluate", f"run={runs[0]}", f"out={folder}", cwd=start, code=2)


def test_an_oracle_sees_its_task_and_gives_the_others_a_score(tmp_path):
    for arm in ("cmaml", "oracle"):
        arguments = [f"arm={arm}", f"run.id={arm}", "inner.cost_limit=1000", "train.meta_iterations=1"]
        cmaml("train", "exp=nav2d", *DISABLED, *TINY, *arguments, cwd=tmp_path)
    printed = cmaml("evaluate", "run=[runs/nav2d/oracle,runs/nav2d/cmaml]", "steps=1", "out=both", cwd=tmp_path)
    rows = lines(tmp_path / "both/evaluation.csv")
    assert {row["method"] for row in rows} == {"cmaml", "oracle", "random"}
    found = {(row["method"], row["step"]): row for row in lines(tmp_path / "both/summary.csv")}
    best = max(found.values(), key=lambda row: float(row["return"]))  # all are within this limit
    assert float(best["score"]) == pytest.approx(1.0)
    assert float(found["random", "0"]["score"]) == 0.0
    floor, ceiling = float(found["random", "0"]["return"]), float(best["return"])
    for row in found.values():
        assert float(row["score"]) == pytest.approx((float(row["return"]) - floor) / (ceiling - floor))
    assert "no score" not in printed
    assert f"that of {best['method']} at step {best['step']}" in " ".join(printed.split())
    assert final_state(tmp_path / "runs/nav2d/oracle")["actor.mean.0.weight"].shape[1] == 20  # goal_x and goal_y


def test_without_a_limit_nothing_restrains_and_nothing_breaks(tmp_path):
    free = [*TINY, "inner.cost_limit=.inf", "safety.eta=0.5"]
    printed = cmaml("train", "exp=nav2d", "run.id=a", "logger.wandb=offline", *free, cwd=tmp_path)
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


def test_export_leaves_its_files_and_says_how_near_they_are(trained):
    start, whole = trained
    for source in (whole, whole / "checkpoints/last.ckpt"):
        printed = cmaml("export", f"ckpt={source}", "out=policy", cwd=start)
        assert printed.count("largest difference") == 2
    assert {path.name for path in (start / "policy").iterdir()} == {"policy.safetensors", "policy.json", "policy.onnx"}


@pytest.mark.parametrize("renderer", ["", "disabled"])
def test_evaluate_films_the_navigation_engine_where_there_is_a_renderer(renderer, tmp_path):
    tiny = [*TINY, "train.meta_iterations=1"]
    cmaml("train", "exp=point_goal", "run.id=a", *DISABLED, *tiny, cwd=tmp_path)
    printed = cmaml("evaluate", "run=runs/point_goal/a", cwd=tmp_path, env={"MUJOCO_GL": renderer})
    assert ("no video: no OpenGL to draw with" in printed) != (tmp_path / "runs/point_goal/a/video.gif").exists()
    assert not renderer or "no video" in printed


def test_training_can_be_asked_for_again_and_be_quiet(tmp_path):
    command = ("train", "exp=nav2d", "run.id=a", "run.resume=auto", *DISABLED, *TINY)
    checkpoint = tmp_path / "runs/nav2d/a/checkpoints/last.ckpt"
    assert cmaml(*command, "train.meta_iterations=1", "quiet=true", cwd=tmp_path) == ""
    first = checkpoint.read_bytes()
    assert "has done its 1 meta-iterations" in cmaml(*command, "train.meta_iterations=1", cwd=tmp_path)
    assert checkpoint.read_bytes() == first
    assert "2/2" in cmaml(*command, cwd=tmp_path)
    assert len(lines(tmp_path / "runs/nav2d/a/metrics.csv")) == 2
    folder = checkpoint.parents[1]
    assert "3/3" in cmaml("train", f"run.resume={folder}", "train.meta_iterations=3", cwd=tmp_path)


def test_bad_input_exits_with_two_and_says_what_to_do(trained, tmp_path):
    _, whole = trained
    checkpoint = whole / "checkpoints/last.ckpt"
    torn = tmp_path / "runs/nav2d/torn/checkpoints/last.ckpt"
    torn.parent.mkdir(parents=True)
    torn.write_bytes(checkpoint.read_bytes()[:2000])
    text = tmp_path / "notes.ckpt"
    text.write_text("not a checkpoint")
    cases = {
        ("train",): "exp is missing",
        ("train", "exp=point_gaol"): "Did you mean point_goal?",
        ("train", "exp=nav2d", "train.meta_iteration=2"): "Did you mean train.meta_iterations?",
        ("train", "exp=nav2d", "arm=mmal"): "Did you mean maml?",
        ("train", "exp=nav2d", "inner.cost_limit=-1"): "inner.cost_limit is -1.0",
        ("train", "exp=nav2d", "train.tasks_per_batch=0"): "train.tasks_per_batch is 0",
        ("train", "exp=nav2d", "rollout.horizon=0"): "rollout.horizon is 0",
        ("train", "exp=nav2d", "train.meta_iterations=few"): "train.meta_iterations has a wrong value",
        ("train", "exp=nav2d", "trainer.max_epochs=3"): "decided by train.meta_iterations",
        ("train", "exp=nav2d", "trainer.devices=0"): "refuses the section trainer",
        ("train", "exp=nav2d", "trainer.max_time=soon"): "refuses the section trainer",
        ("train", "exp=nav2d", "trainer.precision=bf16-true"): "trainer.precision cannot be set",
        ("train", "exp=nav2d", "trainer.accelerator=gpu"): "only cpu is supported",
        ("train", "exp=nav2d", "run=foo"): "run is a section",
        ("train", "exp=nav2d", "run.id=a/b"): "run.id is 'a/b'",
        ("train", "exp=nav2d", "inner.method=${foo}"): "inner.method cannot be read",
        ("train", "exp=${foo}"): "exp cannot be read",
        ("train", "exp=nav2d", "outer.lr=inf"): "outer.lr is inf, but must be finite",
        ("train", "exp=nav2d", "trainer.precison=32"): "Did you mean trainer.precision?",
        ("train", "exp=point_goal", "tasks.env_id=SafetyPointGaol1-v0"): "SafetyPointGoal1-v0",
        ("train", "exp=point_goal", "rollout.horizon=5000"): "rollout.horizon is 5000",
        ("train", "run.resume=nowhere/last.ckpt"): "does not exist",
        ("train", f"run.resume={torn}"): "cut off",
        ("train", f"run.resume={text}"): "cut off or not a checkpoint",
        ("train", f"run.resume={checkpoint}"): "has done 4 meta-iterations",
        ("train", f"run.resume={checkpoint}", "train.meta_iterations=6", "outer.lr=0.5"): "another configuration",
        ("train", f"run.resume={checkpoint}", "train.meta_iterations=6", "arm=maml"): "arm is 'maml' here and None",
        ("train", "exp=point_goal", f"run.resume={checkpoint}", "train.meta_iterations=6"): "from experiment nav2d",
        ("train", "exp=nav2d", f"run.dir={whole.parents[1]}", "run.id=whole"): "is not overwritten",
        ("evaluate",): "evaluate takes run=RUN_FOLDER",
        ("evaluate", f"run={whole}", "step=2"): "Did you mean steps?",
        ("evaluate", f"run={whole}", "quiet=2"): "quiet is 2",
        ("evaluate", f"run=[{whole},{whole}]"): "the same method with the same seed",
        ("train", "exp=nav2d", "run.resume=auto"): "run.resume=auto needs run.id",
        ("evaluate", "run=nowhere"): "is not a run folder",
        ("train", f"run.resume={checkpoint}", "train.meta_iterations=6", "run.id=b"): "run.id cannot be set",
        ("evaluate", f"run={whole}", "steps=0"): "steps is 0",
        ("evaluate", "run=[]"): "evaluate takes run=RUN_FOLDER",
        ("export",): "export takes ckpt=PATH",
        ("export", f"cktp={whole}"): "Did you mean ckpt?",
        ("export", "ckpt=nowhere"): "does not exist",
        ("export", f"ckpt={torn}"): "cut off",
        ("tarin", "exp=nav2d"): "Did you mean train?",
    }
    folders = sorted(tmp_path.rglob("*"))
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    # in one process, for speed; that the messages reach the user of a command is shown by the first case
    for arguments, message in cases.items():
        printed = run_here(arguments, cwd=tmp_path)
        assert message in printed, f"{arguments}: {printed}"
    assert "exp is missing" in cmaml("train", cwd=tmp_path, code=2)
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()} == before
    assert sorted(tmp_path.rglob("*")) == folders, "a refused command left something behind"


def run_here(arguments, cwd):
    """main() with these arguments: its message, having asserted exit code 2."""
    import contextlib
    import io

    from cmaml_pl.cli import main

    stderr = io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stderr(stderr), pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    return stderr.getvalue()


def test_without_a_verb_it_says_what_there_is(tmp_path):
    printed = cmaml(cwd=tmp_path)
    assert "train" in printed
    assert "point_goal" in printed
