"""The verbs evaluate and export, on trained runs."""

import pytest
from tests.commands import cmaml
from tests.integration.runs import DISABLED, TINY, lines

HEADER = ["method", "seed", "task", "step", "env_steps", "return", "cost", "max_cost", "cost_limit", "violated"]


def test_evaluate_measures_every_step_on_test_tasks(folder, tmp_path):
    printed = cmaml("evaluate", f"run={folder.path}", "steps=2", cwd=tmp_path)
    rows = lines(folder.path / "evaluation.csv")
    assert list(rows[0]) == HEADER
    assert {row["method"] for row in rows} == {"fomaml+trpo_lag", "random"}
    assert {row["step"] for row in rows} == {"0", "1", "2"}
    assert {row["task"] for row in rows} == {"7", "8"}  # after 4 training and 3 validation tasks
    assert len(rows) == 2 * 3 * 2
    assert "fomaml+trpo_lag" in printed
    assert "no video: " in printed  # of nav2d
    assert (folder.path / "trajectories.png").stat().st_size > 0


@pytest.fixture
def arms(folder, tmp_path):
    """Runs of two more arms beside the first; their folders as a command names them."""
    for name, arguments in {"eta_off": ["safety.eta_lr=0"], "other_seed": ["seed=1", "arm=cmaml"]}.items():
        start = ("train", "exp=nav2d", f"run.id={name}", *DISABLED, *TINY)
        cmaml(*start, *arguments, "train.meta_iterations=1", cwd=tmp_path)
    return [f"runs/nav2d/{name}" for name in ("a", "eta_off", "other_seed")]


def test_evaluate_compares_arms_over_seeds_and_measures_nothing_twice(arms, tmp_path):
    command = ("evaluate", f"run=[{','.join(arms)}]", "steps=1")
    printed = cmaml(*command, cwd=tmp_path)
    folder = tmp_path / "runs/nav2d/evaluations/a+eta_off+other_seed-1steps"
    assert "5/5" in printed
    assert "intervals apart" in printed
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
        *("evaluation.yaml", "evaluation.csv", "summary.csv", "finetuning.png", "scatter.png", "trajectories.png")
    }
    printed = cmaml(*command, cwd=tmp_path)
    assert printed.count("measured before") == 5
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert cmaml(*command, "quiet=true", cwd=tmp_path) == ""
    assert "holds something else" in cmaml("evaluate", f"run={arms[0]}", f"out={folder}", cwd=tmp_path, code=2)


def test_export_leaves_its_files_and_says_how_near_they_are(trained, tmp_path):
    for source in (trained.path, trained.last_checkpoint):
        printed = cmaml("export", f"ckpt={source}", "out=policy", cwd=tmp_path)
        assert printed.count("largest difference") == 2
    assert {path.name for path in (tmp_path / "policy").iterdir()} == {
        *("policy.safetensors", "policy.json", "policy.onnx")
    }


@pytest.mark.parametrize("renderer", ["", "disabled"])
def test_evaluate_films_the_navigation_engine_where_there_is_a_renderer(renderer, tmp_path):
    tiny = [*TINY, "train.meta_iterations=1"]
    cmaml("train", "exp=point_goal", "run.id=a", *DISABLED, *tiny, cwd=tmp_path)
    # MuJoCo reads the variable when it is imported, which in a fork it is
    asked = {"env": {"MUJOCO_GL": renderer}, "anew": bool(renderer)}
    printed = cmaml("evaluate", "run=runs/point_goal/a", cwd=tmp_path, **asked)
    assert ("no video: no OpenGL to draw with" in printed) != (tmp_path / "runs/point_goal/a/video.gif").exists()
    assert not renderer or "no video" in printed
