"""The verbs evaluate and export, on trained runs."""

import pytest
from tests.commands import cmaml
from tests.integration.runs import DISABLED, TINY, final_state, lines

HEADER = ["method", "seed", "task", "step", "env_steps", "return", "cost", "max_cost", "cost_limit", "violated"]
HEADER += ["predicted_cost", "critic_error", "score", "anytime_cost"]


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
    assert "no score: there is no oracle among the runs: train one with ARM=oracle" in printed
    assert {row["score"] for row in rows} == {"nan"}
    heads = [line.split() for line in printed.splitlines() if line.startswith("arm ")]
    assert [(head[0], head[-1]) for head in heads] == [("arm", "%")]  # in one line: a file has no width to keep to
    assert (folder.path / "trajectories.png").stat().st_size > 0


def test_settings_are_tuned_on_validation_tasks_apart_from_the_test(folder, tmp_path):
    cmaml("evaluate", f"run={folder.path}", "steps=1", "split=validation", cwd=tmp_path)
    rows = lines(folder.path.parent / "evaluations/a-1steps-validation/evaluation.csv")
    assert {row["task"] for row in rows} == {"4", "5", "6"}
    assert not (folder.path / "evaluation.csv").exists()


def test_a_run_is_compared_with_itself_deployed_in_another_way(tmp_path):
    start = ("train", "exp=nav2d", "run.id=a", "arm=cmaml", *DISABLED, *TINY)
    cmaml(*start, "train.meta_iterations=1", "inner.cost_limit=3", cwd=tmp_path)
    command = ("evaluate", "run=runs/nav2d/a", "steps=1", "deployment.method=mixture", "deployment.delta=0.2")
    printed = cmaml(*command, cwd=tmp_path)
    assert "3/3" in printed
    folder = tmp_path / "runs/nav2d/evaluations/a-1steps-deployment_method_mixture-deployment_delta_0_2"
    rows = lines(folder / "evaluation.csv")
    names = {f"cmaml deployment.method={name}" for name in ("adapted", "mixture")}
    assert {row["method"] for row in rows} == {*names, "random"}
    before = [[cell for key, cell in row.items() if key != "method"] for row in rows if row["step"] == "0"]
    assert before[:2] == before[2:4]  # the meta-policy's, in either way
    assert cmaml(*command, cwd=tmp_path).count("measured before") == 3
    assert not (tmp_path / "runs/nav2d/a/evaluation.csv").exists()


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
        *("adaptation.png", "finetuning.png", "scatter.png", "trajectories.png"),
    }
    printed = cmaml(*command, cwd=tmp_path)
    assert printed.count("measured before") == 5
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert cmaml(*command, "quiet=true", cwd=tmp_path) == ""
    assert "holds something else" in cmaml("evaluate", f"run={arms[0]}", f"out={folder}", cwd=tmp_path, code=2)


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
    sizes = [
        final_state(tmp_path / f"runs/nav2d/{arm}")["actor.normaliser.mean"].numel() for arm in ("oracle", "cmaml")
    ]
    assert sizes[0] == sizes[1] + 2  # goal_x and goal_y


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
