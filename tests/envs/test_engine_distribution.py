"""The engine's own distribution: its wheel, alone beside what it requires, and together with the trainer."""

import os
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from tests.commands import ROOT, python_path

from cmaml_pl.envs import ENGINE_IDS

PROJECTS = {name: tomllib.loads((ROOT / name / "pyproject.toml").read_text())["project"] for name in ("engine", ".")}
POINT, CHEETAH = "SafetyPointGoal1-v0", "SafetyHalfCheetahVelocity-v1"


def call(*command):
    """What a process prints."""
    result = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, as `make build` builds it."""
    folder = tmp_path_factory.mktemp("dist")
    call("-m", "build", "--no-isolation", "--wheel", "--outdir", folder, ROOT / "engine")
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel alone, as pip installs it."""
    folder = tmp_path_factory.mktemp("engine")
    call("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target", folder, wheel)
    return folder


def needed(requirements):
    """Names of the distributions that these requirements bring, with those that they require themselves."""
    found, waiting = set(), [Requirement(requirement) for requirement in requirements]
    while waiting:
        requirement = waiting.pop()
        for extra in {"", *requirement.extras}:
            if (requirement.name, extra) not in found:
                found.add((requirement.name, extra))
                own = map(Requirement, distribution(requirement.name).requires or [])
                waiting += [one for one in own if one.marker is None or one.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


@pytest.fixture(scope="module")
def lent(tmp_path_factory):
    """A folder with links to what the engine requires and to safety_gymnasium, without all else that is installed."""
    return lend(needed(PROJECTS["engine"]["dependencies"]) | {"safety-gymnasium"}, tmp_path_factory.mktemp("lent"))


def lend(names, folder):
    """The folder, with links to what these distributions have installed."""
    for name in names:
        package = distribution(name)
        for top in {file.parts[0] for file in package.files or () if not file.parts[0].startswith((".", "__"))}:
            link, target = folder / top, Path(package.locate_file(top))
            if not link.exists() and target.exists():
                link.symlink_to(target)
    return folder


def python(code, *folders):
    """What a process prints that finds, besides the standard library, only what is in these folders."""
    begin = f"import sys; sys.path += {[str(folder) for folder in folders]}"
    return call("-I", "-S", "-W", "error", "-W", "ignore::DeprecationWarning", "-c", f"{begin}\nif True:{code}")


def modules(wheel):
    """The names of a wheel's modules."""
    names = zipfile.ZipFile(wheel).namelist()
    found = [name.removesuffix(".py").replace("/", ".") for name in names if name.endswith(".py")]
    return {name.removesuffix(".__init__") for name in found}


def test_it_holds_the_trainers_files_under_a_name_of_its_own_and_with_its_version(wheel):
    """Without a file of the trainer's distribution, which could otherwise not be removed without breaking it."""
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
        assert {name.partition("/")[0].partition("-")[0] for name in names} == {"cmaml_engine"}
        for name in names:
            if name.endswith(".py") and name != "cmaml_engine/__init__.py":
                own = ROOT / "src" / name.replace("cmaml_engine", "cmaml_pl", 1)
                assert content.read(name) == own.read_bytes()
    assert {"cmaml_engine/py.typed", "cmaml_engine/LICENSE"} <= set(names)
    assert wheel.name == f"cmaml_engine-{PROJECTS['.']['version']}-py3-none-any.whl"


def test_both_projects_say_the_same():
    engine, trainer = PROJECTS["engine"], PROJECTS["."]
    assert set(engine["dependencies"]) <= set(trainer["dependencies"])
    for key in ("authors", "license", "requires-python"):
        assert engine[key] == trainer[key]
    points, own = (project["entry-points"]["gymnasium.envs"] for project in (trainer, engine))
    assert {name: point.replace("cmaml_pl", "cmaml_engine") for name, point in points.items()} == own


def test_it_runs_alone_with_what_it_requires(wheel, installed, lent):
    code = f"""
        import gymnasium
        import cmaml_engine
        for env_id in ("{POINT}", "{CHEETAH}"):
            env = cmaml_engine.make_vec(env_id, 64, max_episode_steps=2, render_mode="rgb_array")
            env.reset(seed=0)
            for _ in range(3):
                observation = env.step(env.action_space.sample())[0]
            print(observation.shape)
            try:
                print(env.render().shape)
            except cmaml_engine.UserError as error:
                print("(360, 360, 3)" if "cannot draw" in str(error) else error)
            env.close()
        env = gymnasium.make_vec("cmaml_pl/{POINT}", num_envs=2, vectorization_mode="custom")
        print(type(env).__module__, env.reset(seed=0)[0].shape)
        try:
            cmaml_engine.make_sb3_vec("{POINT}")
        except cmaml_engine.UserError as error:
            print(error)
        try:
            from cmaml_engine import NavigationEnv
        except ImportError as error:
            print(error)
        print({{"make_vec", "ENGINE_IDS", "UserError"}} <= set(dir(cmaml_engine)), "NavigationEnv" in dir(cmaml_engine))
        print(*(name for name in sys.modules if name.startswith("cmaml_engine")))
    """
    *printed, loaded = python(code, installed, lent).splitlines()
    assert printed[:5] == [
        *("(64, 60)", "(360, 360, 3)", "(64, 17)", "(360, 360, 3)"),
        "cmaml_engine.envs.vector (2, 60)",
    ]
    assert printed[5].startswith("Stable-Baselines3 cannot be imported (No module named 'stable_baselines3'): install")
    assert printed[6] == (
        "NavigationEnv belongs to the trainer, and is not in the engine's own distribution: install cmaml_pl, and "
        "write `from cmaml_pl.envs import NavigationEnv`."
    )
    assert printed[7] == "True False"
    assert set(loaded.split()) == modules(wheel) - {"cmaml_engine.envs.sb3"}


def test_it_runs_beside_the_trainer_and_with_stable_baselines3(installed, tmp_path):
    """Both have the plug-in of Gymnasium, and each its own modules."""
    pytest.importorskip("stable_baselines3")
    code = f"""if True:
        import gymnasium, importlib.metadata
        from cmaml_engine import make_sb3_vec
        from cmaml_pl.envs import make_vec
        points = importlib.metadata.entry_points(group="gymnasium.envs", name="cmaml_pl")
        print(*sorted(point.value.partition(".")[0] for point in points))
        print(sum(name.startswith("cmaml_pl/") for name in gymnasium.registry))
        print((make_sb3_vec("{POINT}", 2, seed=0).reset() == make_vec("{POINT}", 2, seed=0).reset()[0]).all())
    """
    path = os.pathsep.join([str(installed), python_path()])
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "WARN" not in result.stderr  # Gymnasium's word
    assert result.stdout.splitlines() == ["cmaml_engine cmaml_pl", str(len(ENGINE_IDS)), "True"]


def test_the_example_trains_on_it_without_the_trainer(installed, lent, tmp_path):
    """And without a limit, so that its multiplier stays 0."""
    small = {"num-envs": 8, "num-steps": 50, "episode-steps": 50, "total-steps": 400, "minibatches": 2, "epochs": 1}
    words = ["example", "--cost-limit=none", *(f"--{name}={value}" for name, value in small.items())]
    code = f"""
        import runpy
        sys.argv = {words}
        runpy.run_path({str(ROOT / "examples/ppo_lagrangian.py")!r}, run_name="__main__")
        print("cmaml_engine" in sys.modules, "cmaml_pl" in sys.modules)
    """
    line, packages = python(code, installed, lent, lend(needed(["torch"]), tmp_path)).splitlines()
    assert " lambda 0.00 " in line
    assert packages == "True False"
