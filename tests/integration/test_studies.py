"""The verb study: trainings in processes of their own, which fail, are killed, are stopped, and go on."""

import re
import shutil
import signal
import time

import pytest
from omegaconf import OmegaConf
from tests.commands import ROOT, cmaml, refused, started
from tests.integration.runs import DISABLED, TINY, done, lines

from cmaml_pl.runs.checkpoints import load_checkpoint
from cmaml_pl.runs.folder import RunFolder
from cmaml_pl.runs.start import prepare_run

SETTINGS = [*TINY, *DISABLED]
NO_END = "train.meta_iterations=1000000"


@pytest.fixture
def study(tmp_path):
    """What the verb prints; where several runs train at once, they are forks of it."""

    def run(*arguments, **how):
        return cmaml("study", *SETTINGS, *arguments, cwd=tmp_path, **how)

    return run


@pytest.fixture
def begun(tmp_path):
    """A study that is stopped before it ends, and what it prints."""

    def begin(*arguments):
        return started("cmaml_pl", "study", *SETTINGS, *arguments, cwd=tmp_path)

    return begin


def wait_until(happened, study):
    while not happened():
        assert study.running, study.printed
        time.sleep(0.02)


MINE = """
exp: nav2d
arms: [cmaml, my_arm.yaml]
seeds: [0, 1]
steps: 1
question: Is <my arm> better?
claims:
  - {arm: my_arm, against: cmaml, smallest_effect: 100}
  - {arm: cmaml, quantity: over_limit, direction: lower, against: random}
published:
  - {method: theirs, source: a table, returns: {0: -1, 1: 2.5, 9: 3}}
"""

MANUAL, METHOD = ROOT / "docs/own_environment.md", ROOT / "examples/own_parts/penalty.py"


def manuals_arm() -> str:
    """The arm in the manual's section on a method of the user's own."""
    section = MANUAL.read_text().split("## A method of your own\n")[1]
    found = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert found
    return found[1]


def test_a_study_with_the_users_own_method_trains_in_parts_goes_on_and_decides(study, tmp_path):
    (tmp_path / "my_arm.yaml").write_text(manuals_arm())
    shutil.copy(METHOD, tmp_path)
    (tmp_path / "claims.yaml").write_text(MINE)
    own = ["study=claims.yaml", "jobs=2"]
    study(*own, "part=4/4")
    assert OmegaConf.load(RunFolder(tmp_path / "runs/nav2d/my_arm-s1").config).rollout.workers is None, "one: all cores"
    shutil.rmtree(tmp_path / "runs/nav2d/my_arm-s1")
    printed = study(*own, "part=1/2")
    folder = tmp_path / "runs/nav2d/study-claims"
    assert "claims: 2 arms, 2 seeds; part 1 of 2, 2 runs, 2 at once" in printed
    assert re.search(r" 2/2  cmaml-s[01]: \d+ s\n", printed)
    assert not (folder / "evaluation").exists()  # of a part
    rest = study(*own)
    assert rest.count("complete before") == 2
    assert re.search(r" 4/4  my_arm-s[01]: \d+ s\n", rest)
    assert {row["method"] for row in lines(folder / "evaluation/summary.csv")} >= {
        "cmaml",
        "my_arm",
        "random inner.method=trpo_lag",
    }
    verdicts = lines(folder / "verdicts.csv")
    assert [row["verdict"] for row in verdicts] == ["does not hold", "undecided"]
    assert (verdicts[0]["arm"], verdicts[0]["seeds"], verdicts[0]["trial"]) == ("my_arm", "2", "False")
    assert "| my_arm: the return after 1 step is higher than that of C-MAML, by more than 100 |" in (
        tables := (folder / "tables.md").read_text()
    )
    assert re.search(r"^\| my_arm \|.* \| [\d,]+ steps, \d+ s \|$", tables, re.MULTILINE), "the table of arms"
    assert "| theirs (a table) | -1 | 2.5 |\n" in tables
    assert "## In meta-training" in tables
    page = (folder / "report.html").read_text()
    assert "Is &lt;my arm&gt; better?" in page
    assert page.count("data:image/png;base64,") == 4  # adaptation, verdicts, published, return against cost
    assert not re.search(r"(src|href)=\"(?!data:)|<script", page), "the page needs something else"
    assert "cmaml study study=claims.yaml train.meta_iterations=2" in page
    for run in ("cmaml-s0", "my_arm-s1"):
        assert OmegaConf.load(RunFolder(tmp_path / "runs/nav2d" / run).config).rollout.workers == 1
    # what has changed in a file does not change a run that is there, and that is told
    (tmp_path / "my_arm.yaml").write_text(manuals_arm().replace("0.5", "0.7"))
    told = study(*own, "part=2/2")
    assert (
        "my_arm-s0 keeps the settings that it was begun with: inner.weight is 0.5, now 0.7. Remove its folder" in told
    )
    assert told.count("complete before") == 2


def test_a_run_that_fails_is_named_the_others_go_on_and_nothing_is_evaluated_without_it(study, tmp_path):
    torn = tmp_path / "runs/nav2d/cmaml-s0/checkpoints/last.ckpt"  # refused before a process is started
    torn.parent.mkdir(parents=True)
    torn.write_text("torn")
    (tmp_path / "runs/nav2d/maml-s0").write_text("a file where a folder should be")  # refused by the process itself
    printed = study("exp=nav2d", "arms=[cmaml,maml,eta_off]", "seeds=0", "jobs=1", "steps=1", code=1)
    assert re.search(r"1/3  cmaml-s0: failed: No checkpoint in .*cmaml-s0/checkpoints can be read", printed)
    log = "runs/nav2d/study-cmaml-maml-eta_off/logs/maml-s0.log"
    assert "2/3  maml-s0: failed: exit code 2, Error: runs/nav2d/maml-s0 cannot be written: File exists" in printed
    assert f"({log})" in printed
    assert re.search(r"3/3  eta_off-s0: \d+ s\n", printed)
    assert "is not evaluated. 2 of 3 runs failed: cmaml-s0, maml-s0. The same command tries them again." in printed
    assert done(RunFolder(tmp_path / "runs/nav2d/eta_off-s0")) == 2
    assert not (tmp_path / log).parents[1].joinpath("evaluation").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_reaches_the_trainings_which_save_and_end(number, begun, tmp_path, request):
    # SIGUSR1 is SLURM's, whose job is then requeued
    requeued = request.getfixturevalue("slurm") if number == signal.SIGUSR1 else None
    folders = [RunFolder(tmp_path / f"runs/nav2d/{arm}-s0") for arm in ("cmaml", "maml")]

    with begun("exp=nav2d", "arms=[cmaml,maml]", "seeds=0", "jobs=2", NO_END) as stopped:
        wait_until(lambda: all(done(folder) >= 3 for folder in folders), stopped)
        stopped.process.send_signal(number)
        assert stopped.end() == 128 + number
        printed = stopped.printed
    assert f"Stopped by {number.name}. The same command goes on." in printed
    assert "failed" not in printed
    for folder, log in zip(folders, sorted(tmp_path.rglob("*.log")), strict=True):
        assert load_checkpoint(folder.last_checkpoint).iterations == done(folder) >= 3
        assert f"Stopped by {number.name}. Go on with" in log.read_text()
    assert requeued is None or requeued.read_text() == "requeue 4711\n"  # once for all trainings


@pytest.mark.parametrize("arms", ["cmaml", "cmaml,maml"])
def test_slurms_signal_during_the_evaluation_requeues_the_job(arms, begun, tmp_path, slurm):
    many = "steps=100000"  # so that it does not end before
    with begun("exp=nav2d", f"arms=[{arms}]", "seeds=0", "jobs=2", many) as stopped:  # two measure at once
        wait_until((tmp_path / f"runs/nav2d/study-{arms.replace(',', '-')}/evaluation").exists, stopped)
        stopped.process.send_signal(signal.SIGUSR1)
        assert stopped.end() == 128 + signal.SIGUSR1
        assert "Stopped by SIGUSR1. The same command goes on." in stopped.printed
    assert slurm.read_text() == "requeue 4711\n"


def test_a_run_that_has_done_more_or_has_other_settings_is_not_taken_for_the_one_that_is_asked_for(study, tmp_path):
    command = ["exp=nav2d", "arms=[cmaml,maml]", "seeds=0", "part=1/1", "jobs=2"]
    study(*command)
    assert "cmaml-s0: complete before" in study(*command)
    more = study(*command, "train.meta_iterations=1", code=1)
    assert "failed: runs/nav2d/cmaml-s0 has done 2 of 1 meta-iterations: set run.dir, or remove the folder" in more
    other = study(*command, "inner.cost_limit=3", code=1)
    assert re.search(r"inner\.cost_limit is 3.*In a study, run\.dir=FOLDER starts new runs\.", other)


@pytest.mark.parametrize("arms", ["cmaml", "cmaml,maml"])
def test_a_study_that_is_killed_goes_on_and_its_trainings_end_with_it(arms, study, begun, tmp_path):
    command = ["exp=nav2d", f"arms=[{arms}]", "seeds=0", "part=1/1", "jobs=2"]  # of two, each is a fork
    folders = [RunFolder(tmp_path / f"runs/nav2d/{arm}-s0") for arm in arms.split(",")]
    with begun(*command, NO_END) as killed:
        wait_until(lambda: all(done(folder) >= 3 for folder in folders), killed)
        killed.process.kill()
        killed.process.wait()
    # its trainings were sent SIGTERM and end; if one is still there, the study waits for it
    more = max(done(folder) for folder in folders) + 10
    printed = study(*command, f"train.meta_iterations={more}")
    assert len(re.findall(r"  (?:cmaml|maml)-s0: \d+ s\n", printed)) == len(folders)
    for folder in folders:
        assert load_checkpoint(folder.last_checkpoint).iterations == done(folder) == more
    time.sleep(0.5)
    assert all(done(folder) == more for folder in folders)


@pytest.mark.parametrize(
    ("message", "command"),
    [
        ("study takes study=NAME, one of", "study"),
        ("Did you mean seeds?", "study exp=nav2d sedes=[1]"),
        ("study has no key study.foo. Did you mean study?", "study study.foo=1 exp=nav2d"),
        ("study is [], but must name one or several", "study study=[]"),
        ("Did you mean tasks.train?", "study exp=nav2d tasks.trian=3"),
        ("There is no arm 'mmal'. Did you mean maml?", "study exp=nav2d arms=[mmal]"),
        ("jobs is 0, but must be a whole number, at least 1", "study exp=nav2d jobs=0"),
        ("part is '3/2', but must be I/N", "study exp=nav2d part=3/2"),
        ("scale is 'slow', but must be quick", "study exp=nav2d scale=slow"),
        ("seed cannot be set in a study", "study exp=nav2d seed=3"),
        ("run.id cannot be set in a study", "study exp=nav2d run.id=a"),
    ],
)
def test_bad_input_exits_with_two_and_starts_nothing(message, command, tmp_path):
    assert message in refused(*command.split(), cwd=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_quick_study_is_told_to_be_a_trial_and_is_on_a_page_with_all_others(study, tmp_path):
    (tmp_path / "one.yaml").write_text(
        "exp: nav2d\narms: [{arm: cmaml, label: cmaml-1-task, overrides: [train.distinct_tasks=1]}]\nseeds: [0]\n"
        "claims: [{arm: cmaml-1-task, quantity: critic_error, against: 9}, {arm: cmaml-1-task, against: 9, step: 2}]"
    )
    printed = study("study=[one.yaml]", "steps=1", "scale=quick", "out=pages")
    assert "claims left out, about other arms or later steps: 1\n" in printed
    assert "pages/index.html" in printed
    page = (tmp_path / "pages/index.html").read_text()
    assert page.count("A trial of the pipeline") == 1
    assert '<h2 id="one">one</h2>' in page
    assert '<a href="#one">one</a>' in page
    assert "# one\n\nA trial of the pipeline" in (tmp_path / "pages/tables.md").read_text()
    assert lines(tmp_path / "pages/one/verdicts.csv")[0]["trial"] == "True"
    assert {row["step"] for row in lines(tmp_path / "pages/one/evaluation.csv")} == {"0", "1"}
    assert "C-MAML, 1 task: the safety critic&#x27;s error of a task&#x27;s cost after 1 step is higher than 9" in page
    assert "undecided: only a trial" in page
    assert "cmaml study study=one.yaml steps=1 scale=quick" in page
    assert not (tmp_path / "runs/nav2d").exists()
    assert done(RunFolder(tmp_path / "runs/quick/nav2d/cmaml-1-task-s0")) == 2


def test_a_run_of_another_number_of_workers_goes_on_in_a_study(trained):
    asked = [f"run.resume={trained.path}", "rollout.workers=3", "train.meta_iterations=3"]
    config, folder, checkpoint = prepare_run(asked)
    assert (config.rollout.workers, folder.path, checkpoint.iterations) == (3, trained.path, 2)
