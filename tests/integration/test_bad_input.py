"""What a user may type by mistake: exit code 2, one message that says what to do, and nothing is touched."""

import pytest
from tests.commands import cmaml, refused

RESUME = "run.resume={checkpoint}"
LONGER = "train.meta_iterations=6"
CASES = [
    ("exp is missing", "train"),
    ("Did you mean point_goal?", "train exp=point_gaol"),
    ("Did you mean train.meta_iterations?", "train exp=nav2d train.meta_iteration=2"),
    ("Did you mean maml?", "train exp=nav2d arm=mmal"),
    ("inner.cost_limit is -1", "train exp=nav2d inner.cost_limit=-1"),
    ("train.tasks_per_batch is 0", "train exp=nav2d train.tasks_per_batch=0"),
    ("rollout.horizon is 0", "train exp=nav2d rollout.horizon=0"),
    ("train.meta_iterations has a wrong value", "train exp=nav2d train.meta_iterations=few"),
    ("decided by train.meta_iterations", "train exp=nav2d trainer.max_epochs=3"),
    ("trainer.fast_dev_run cannot be set", "train exp=nav2d trainer.fast_dev_run=true"),
    ("refuses the section trainer", "train exp=nav2d trainer.devices=0"),
    ("refuses the section trainer", "train exp=nav2d trainer.max_time=soon"),
    ("trainer.precision cannot be set", "train exp=nav2d trainer.precision=bf16-true"),
    ("must be one of cpu, gpu, cuda, auto", "train exp=nav2d trainer.accelerator=mps"),
    ("run is a section", "train exp=nav2d run=foo"),
    ("run.id is 'a/b'", "train exp=nav2d run.id=a/b"),
    ("inner.method cannot be read", "train exp=nav2d inner.method=${{foo}}"),
    ("exp cannot be read", "train exp=${{foo}}"),
    ("outer.lr is inf, but must be finite", "train exp=nav2d outer.lr=inf"),
    ("Did you mean trainer.precision?", "train exp=nav2d trainer.precison=32"),
    ("policy.actor is 'wide', but must be gaussian", "train exp=nav2d policy.actor=wide"),
    ("Did you mean gaussian?", "train exp=nav2d policy.actor=Gausian"),
    ("policy.options has width", "train exp=nav2d policy.options.width=3"),
    ("does not read it: set policy.context=0", "train exp=nav2d policy.actor=own:Net"),
    ("trainer.callbacks is 'own:Watch', but must be a list", "train exp=nav2d trainer.callbacks=own:Watch"),
    ("SafetyPointGoal1-v0", "train exp=point_goal tasks.env_id=SafetyPointGaol1-v0"),
    ("rollout.horizon is 5000", "train exp=point_goal rollout.horizon=5000"),
    ("does not exist", "train run.resume=nowhere/last.ckpt"),
    ("cut off", "train run.resume={torn}"),
    ("cut off or not a checkpoint", "train run.resume={text}"),
    ("has done 2 meta-iterations", f"train {RESUME}"),
    ("another configuration", f"train {RESUME} {LONGER} outer.lr=0.5"),
    ("arm is 'maml' here and None", f"train {RESUME} {LONGER} arm=maml"),
    ("from experiment nav2d", f"train exp=point_goal {RESUME} {LONGER}"),
    ("run.id cannot be set", f"train {RESUME} {LONGER} run.id=b"),
    ("is not overwritten", "train exp=nav2d run.dir={runs} run.id=a"),
    ("run.resume=auto needs run.id", "train exp=nav2d run.resume=auto"),
    ("evaluate takes run=RUN_FOLDER", "evaluate"),
    ("evaluate takes run=RUN_FOLDER", "evaluate run=[]"),
    ("Did you mean steps?", "evaluate run={run} step=2"),
    ("steps is 0", "evaluate run={run} steps=0"),
    ("split is 'train', but must be test or validation", "evaluate run={run} split=train"),
    ("which needs a finite limit above 0", "evaluate run={run} deployment.method=mixture"),
    ("deployment.method is 'mix', but must be one of adapted, mixture", "evaluate run={run} deployment.method=mix"),
    ("Did you mean deployment.method?", "evaluate run={run} deployment=mixture"),
    ("are deployed by deployment.method=adapted as they are", "evaluate run={run} deployment.method=adapted"),
    ("quiet is 2", "evaluate run={run} quiet=2"),
    ("jobs is 0, but must be a whole number, at least 1", "evaluate run={run} jobs=0"),
    ("the same method with the same seed", "evaluate run=[{run},{run}]"),
    ("is not a run folder", "evaluate run=nowhere"),
    ("export takes ckpt=PATH", "export"),
    ("Did you mean ckpt?", "export cktp={run}"),
    ("does not exist", "export ckpt=nowhere"),
    ("cut off", "export ckpt={torn}"),
    ("Did you mean train?", "tarin exp=nav2d"),
]


@pytest.mark.parametrize(("message", "command"), CASES, ids=[command for _, command in CASES])
def test_bad_input_exits_with_two_and_says_what_to_do(message, command, trained, tmp_path):
    torn, text = tmp_path / "runs/nav2d/torn/checkpoints/last.ckpt", tmp_path / "notes.ckpt"
    torn.parent.mkdir(parents=True)
    torn.write_bytes(trained.last_checkpoint.read_bytes()[:2000])
    text.write_text("not a checkpoint")
    places = {"checkpoint": trained.last_checkpoint, "run": trained.path, "runs": trained.path.parents[1]}
    before = {path: path.stat().st_mtime_ns for place in (tmp_path, trained.path) for path in place.rglob("*")}
    arguments = command.format(**places, torn=torn, text=text).split()
    printed = refused(*arguments, cwd=tmp_path)  # in this process, for speed
    assert message in printed
    after = {path: path.stat().st_mtime_ns for place in (tmp_path, trained.path) for path in place.rglob("*")}
    assert after == before, "a refused command left something behind"


def test_the_message_and_the_code_reach_the_user_of_a_command(tmp_path):
    assert "exp is missing" in cmaml("train", cwd=tmp_path, code=2)


def test_without_a_verb_it_says_what_there_is(tmp_path):
    printed = cmaml(cwd=tmp_path)
    assert "train" in printed
    assert "point_goal" in printed
