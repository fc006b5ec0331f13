"""The command line: `python -m cmaml_pl VERB key=value ...`, also installed as `cmaml`."""

import errno
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

from lightning.pytorch import Trainer
from omegaconf import ListConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cmaml_callbacks import GracefulStop
from cmaml_pl import __version__
from cmaml_pl.assembly import build_datamodule, build_trainer, find_ranks, open_module
from cmaml_pl.configuration.loading import experiments, load_experiment, sweeps
from cmaml_pl.configuration.merging import flatten
from cmaml_pl.configuration.overrides import find_value, parse_overrides
from cmaml_pl.cores import find_jobs
from cmaml_pl.distributed.slurm import requeue_slurm_job
from cmaml_pl.errors import UserError, did_you_mean
from cmaml_pl.evaluation.meta_test import MEASURED
from cmaml_pl.evaluation.report import evaluate_runs
from cmaml_pl.runs.checkpoints import restore
from cmaml_pl.runs.folder import RunFolder
from cmaml_pl.runs.start import RUN_ID, prepare_run
from cmaml_pl.studies.run import run_studies
from cmaml_pl.studies.stops import REQUEUED_BY_STUDY
from cmaml_pl.tracking.keys import require_wandb_key
from cmaml_pl.tracking.sweeps import become_agent, create_sweep
from cmaml_pl.tracking.wandb_logger import find_wandb_logger
from cmaml_pl.usage import VERB_KEYS, completion_script, overview, verb_help

console = Console(highlight=False)

EXPECTED_WARNINGS = (
    ".*does not have many workers.*",  # the loader serves descriptions of tasks and needs no workers
    ".*Checkpoint directory .* exists and is not empty.*",  # normal when a run is resumed
    "Creating .* which inherits from WeightUpdaterBase is deprecated.*",  # raised inside TorchRL
    ".*dirpath has changed from.*",  # normal when a run folder was moved
    ".*Please add the following callbacks: .'WandbMetrics'.*",  # normal when a run is resumed without W&B
    ".*isinstance.treespec, LeafSpec.* is deprecated.*",  # raised inside Lightning
    "GPU available but not used.*",  # the CPU is the default, and docs/operations.md says when a GPU pays
    ".*It is recommended to use `self.log.*sync_dist=True.*",  # the logged values are already equal on all ranks
)
"""Patterns of warnings from dependencies that are hidden, because a user can do nothing about them."""

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.EEXIST)
"""Errors of the disk: no space left, over quota, read-only, no permission, a file where a folder should be."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the verb that the arguments name; bad input prints one message and exits with code 2."""
    verb, *overrides = list(sys.argv[1:] if arguments is None else arguments) or ["help"]
    if verb == "--version":
        print(__version__)
        return
    if {verb, *overrides} & {"-h", "--help"}:
        verb, overrides = "help", [verb, *overrides]
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    try:
        if verb not in VERBS:
            hint = did_you_mean(verb, VERBS)
            raise UserError(f"There is no verb {verb!r}.{hint} The verbs are: {', '.join(VERBS)}.")
        VERBS[verb](overrides)
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        _fail(f"{error.filename or 'A file'} cannot be written: {error.strerror}. What was saved before is as it was.")


def _fail(message: str) -> NoReturn:
    Console(stderr=True, highlight=False).print(f"[bold red]Error:[/] {escape(message)}", soft_wrap=True)
    sys.exit(2)


def help_text(overrides: Sequence[str] = ()) -> None:
    """List the verbs, experiments, arms and sweeps; VERB --help says what one verb does."""
    asked = [name for name in overrides if name in VERBS and name != "help"]
    print(verb_help(asked[0], VERBS) if asked else overview(VERBS))


def completion(overrides: Sequence[str]) -> None:
    """Print the code by which a shell completes verbs, keys and names: completion bash, or completion zsh.

    bash reads it from ~/.local/share/bash-completion/completions/cmaml, zsh from a file that ~/.zshrc sources.
    """
    print(completion_script(" ".join(overrides), VERBS), end="")


def show_config(overrides: Sequence[str]) -> None:
    """Print the whole configuration of an experiment, and run nothing: exp=NAME or exp=FILE.yaml [arm=NAME]."""
    exp = find_value(parse_overrides(overrides), "exp")
    if not exp:
        raise UserError(f"exp is missing: exp=NAME, one of {', '.join(experiments())}, or exp=FILE.yaml.")
    config = load_experiment(str(exp), overrides)
    print(OmegaConf.to_yaml(OmegaConf.structured(config)), end="")


def train(overrides: Sequence[str]) -> RunFolder:
    """Meta-train an experiment, exp=NAME or exp=FILE.yaml [arm=NAME], or go on from a checkpoint, run.resume=PATH."""
    config, folder, checkpoint = prepare_run(overrides)
    console = _console(quiet=config.quiet)
    if checkpoint and checkpoint.iterations >= config.train.meta_iterations:
        console.print(f"{folder.path} has done its {config.train.meta_iterations} meta-iterations.", soft_wrap=True)
        return folder
    trainer = build_trainer(config, folder)
    console, ranks = _console(quiet=config.quiet or not trainer.is_global_zero), find_ranks(trainer)
    with open_module(config, ranks) as module:
        if checkpoint:
            restore(module, checkpoint)  # a checkpoint that does not fit is refused here, before the folder is touched
        with folder.claim(config) if trainer.is_global_zero else nullcontext():
            module.save_hyperparameters(flatten(config))
            name = f"{config.exp}, {config.arm}" if config.arm else config.exp
            console.print(f"{name}, seed {config.seed}: {folder.path}", soft_wrap=True)
            if ranks.size > 1:
                os.environ[RUN_ID] = folder.path.name  # read by the processes that Lightning is about to start
            path = checkpoint.path if checkpoint else None
            trainer.fit(module, build_datamodule(config), ckpt_path=path, weights_only=True)
    _exit_if_stopped(trainer, folder)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    _print_summary(console, metrics, cost_limit=config.inner.cost_limit, discount=config.inner.cost_limit_discount)
    for what, where in {
        "curves": folder.learning_curves,
        "metrics": folder.metrics,
        "checkpoint": folder.last_checkpoint,
        **_wandb_run(trainer),
    }.items():
        console.print(f"  {what:<10} {where}", soft_wrap=True)
    return folder


def _exit_if_stopped(trainer: Trainer, folder: RunFolder) -> None:
    """If a signal stopped the run: print how to resume it, and exit with code 128 + the signal's number.

    Schedulers and sweep agents recognise a signal by this exit code.
    """
    callbacks = trainer.callbacks  # type: ignore[attr-defined]  # one of Lightning's connectors sets this attribute
    stop = next(callback for callback in callbacks if isinstance(callback, GracefulStop))
    if stop.received is None or trainer.current_epoch == trainer.max_epochs:
        return
    if not trainer.is_global_zero:
        sys.exit()  # with code 0: any other code here would make Lightning kill the first rank, whose code counts
    logger = find_wandb_logger(trainer)
    if logger is not None and "WANDB_SWEEP_ID" in os.environ:
        logger.experiment.mark_preempting()
    print(f"Stopped by {stop.received.name}. Go on with run.resume={folder.last_checkpoint}", file=sys.stderr)
    if stop.received == stop.requeue_signal:
        if logger is not None:
            logger.experiment.finish(exit_code=128 + stop.received)  # now: SLURM may end this process when it requeues
        if REQUEUED_BY_STUDY not in os.environ and (refusal := requeue_slurm_job()):
            print(f"SLURM does not requeue the job: {refusal}", file=sys.stderr)
    sys.exit(128 + stop.received)


def evaluate(overrides: Sequence[str]) -> Path:
    """Adapt on held-out test tasks, arm by arm, from learned and random starts: run=RUN_FOLDER or run=[FOLDER,...].

    steps=K is the number of adaptation steps, and out=FOLDER the folder of the results. split=validation measures on
    the validation tasks instead, for tuning. deployment.method=NAME measures each run deployed in that way as well, and
    deployment.checkpoint=best its best validated checkpoint. jobs=N starts at once are measured, by default as many as
    there are cores.
    """
    deployment = [item for item in overrides if item.startswith("deployment.")]
    others = [item for item in overrides if item not in deployment]
    run, steps, out, split, jobs, quiet, *_ = _values("evaluate", others)
    if not run:
        raise UserError(
            "evaluate takes run=RUN_FOLDER, or run=[FOLDER,...] for several, steps=K, out=FOLDER and split=validation."
        )
    if steps is not None and (type(steps) is not int or steps < 1):
        raise UserError(f"steps is {steps!r}, but must be a whole number, at least 1.")
    if split not in (None, *MEASURED):
        raise UserError(f"split is {split!r}, but must be {' or '.join(MEASURED)}.")
    if quiet not in (None, True, False):
        raise UserError(f"quiet is {quiet!r}, but must be true or false.")
    paths = [Path(str(path)) for path in (run if isinstance(run, ListConfig) else [run])]
    return evaluate_runs(
        paths,
        steps=steps,
        split=split or MEASURED[0],
        out=Path(str(out)) if out else None,
        deployment=deployment,
        console=_console(quiet=bool(quiet)),
        jobs=find_jobs(jobs),
    ).folder


def study(overrides: Sequence[str]) -> None:
    """Train arms with several seeds, compare them and decide claims: study=NAME, or exp=NAME arms=[A,B] seeds=[0,1].

    study=NAME is a file in conf/study; study=FILE.yaml is one of your own; study=[A,B] or study=all are several, with
    one page for all, out=FOLDER. steps=K is the number of adaptation steps of the meta-test. jobs=N trainings run at
    once. part=I/N trains only the share I of N, and evaluates nothing. scale=quick tries the pipeline in minutes. All
    other keys are those of the trainings. The same command again goes on where it was stopped.
    """
    run_studies(overrides, console)


def sweep(overrides: Sequence[str]) -> None:
    """Create the W&B sweep of conf/sweep/NAME.yaml, exp=NAME; other overrides apply to all its trials."""
    name = find_value(parse_overrides(overrides), "exp")
    if not name:
        raise UserError(f"exp is missing: exp=NAME, one of {', '.join(sweeps())}.")
    require_wandb_key("A sweep lives at W&B")
    path = create_sweep(str(name), [item for item in overrides if not item.startswith("exp=")])
    console.print(f"The sweep is {path}. Run its trials, on as many machines as you like, by", soft_wrap=True)
    console.print(f"  make agent SWEEP={path}", soft_wrap=True)


def agent(overrides: Sequence[str]) -> None:
    """Run trials of a W&B sweep, sweep=ENTITY/PROJECT/ID, until it ends or until count=N trials are done."""
    path, count = _values("agent", overrides)
    if not re.fullmatch(r"[^/]+/[^/]+/[^/]+", str(path)):
        raise UserError("agent takes sweep=ENTITY/PROJECT/ID, as `make sweep` prints it, and count=N.")
    if count is not None and (type(count) is not int or count < 1):
        raise UserError(f"count is {count!r}, but must be a whole number, at least 1.")
    require_wandb_key("A sweep lives at W&B")
    become_agent(str(path), count=count)


def export(overrides: Sequence[str]) -> None:
    """Write the policy of a checkpoint as safetensors with JSON and as ONNX: ckpt=PATH [out=FOLDER]."""
    checkpoint, out = _values("export", overrides)
    if not checkpoint:
        raise UserError("export takes ckpt=PATH, a checkpoint or a run folder, and out=FOLDER.")
    try:
        from cmaml_pl.export import export_policy  # imported here: no other verb needs onnx and safetensors
    except ModuleNotFoundError as error:
        raise UserError(f"export needs the package {error.name}: pip install {error.name}, or make setup.") from None
    for path, difference in export_policy(Path(str(checkpoint)), out=Path(str(out)) if out else None).items():
        console.print(f"{path}  largest difference from the checkpoint's actions: {difference:.2g}", soft_wrap=True)


VERBS: Mapping[str, Callable[[Sequence[str]], object]] = {
    "train": train,
    "evaluate": evaluate,
    "study": study,
    "sweep": sweep,
    "agent": agent,
    "export": export,
    "config": show_config,
    "completion": completion,
    "help": help_text,
}


def _values(verb: str, overrides: Sequence[str]) -> list[Any]:
    """The value of each key of a verb, in the order of VERB_KEYS; None for a key that the overrides do not set.

    Raises:
        UserError: an override has a key that the verb does not take.
    """
    request, known = parse_overrides(overrides), VERB_KEYS[verb]
    for key in map(str, request):
        if key not in known:
            raise UserError(f"{verb} has no key {key}.{did_you_mean(key, known)} It takes {', '.join(known)}.")
    return [find_value(request, key) for key in known]


def _console(*, quiet: bool) -> Console:
    return Console(quiet=True) if quiet else console


def _wandb_run(trainer: Trainer) -> dict[str, str]:
    """One line for the summary: the address of the W&B run, or the command that uploads an offline run.

    It is empty without W&B and on all ranks but the first.
    """
    logger = find_wandb_logger(trainer)
    if logger is None or not trainer.is_global_zero:
        return {}
    run = logger.experiment
    if not run.offline:
        return {"W&B": str(run.url)}
    # each start and each resume of a run writes a folder of its own; all of them belong to one W&B run
    stretches = sorted(Path(run.dir).parents[1].glob("offline-run-*"))
    return {"W&B": f"wandb sync {' '.join(map(str, stretches))}"}


def _print_summary(console: Console, metrics: Mapping[str, float], *, cost_limit: float, discount: float) -> None:
    """Print return and cost before and after adaptation, on the last training tasks and on the held-out tasks."""
    cost = f"{'' if discount == 1.0 else 'discounted '}cost (limit {cost_limit:.4g})"
    table = Table("tasks", "adaptation", "return", cost, box=None, pad_edge=False)
    for tasks, prefix in (("training", ""), ("held out", "val/")):
        for phase, label in (("pre", "before"), ("post", "after")):
            if f"{prefix}{phase}/return" in metrics:
                values = (metrics[f"{prefix}{phase}/{quantity}"] for quantity in ("return", "cost"))
                table.add_row(tasks, label, *(f"{value:.2f}" for value in values))
    console.print(table)
