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
from omegaconf import ListConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cmaml_callbacks import GracefulStop
from cmaml_pl.assembly import build_datamodule, build_trainer, find_ranks, open_module
from cmaml_pl.configuration.loading import arms, experiments, sweeps
from cmaml_pl.configuration.merging import flatten
from cmaml_pl.configuration.overrides import find_value, parse_overrides
from cmaml_pl.distributed.slurm import requeue_slurm_job
from cmaml_pl.errors import UserError, did_you_mean
from cmaml_pl.evaluation.report import evaluate_runs
from cmaml_pl.runs.checkpoints import restore
from cmaml_pl.runs.folder import RunFolder
from cmaml_pl.runs.start import RUN_ID, prepare_run
from cmaml_pl.tracking.keys import require_wandb_key
from cmaml_pl.tracking.sweeps import become_agent, create_sweep
from cmaml_pl.tracking.wandb_logger import find_wandb_logger

console = Console(highlight=False)

EXPECTED_WARNINGS = (
    ".*does not have many workers.*",  # a loader that serves descriptions of tasks needs none
    ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run's
    "Creating .* which inherits from WeightUpdaterBase is deprecated.*",  # within TorchRL
    ".*dirpath has changed from.*",  # of a run folder that was moved
    ".*Please add the following callbacks: .'WandbMetrics'.*",  # of a run that goes on without W&B
    ".*isinstance.treespec, LeafSpec.* is deprecated.*",  # within Lightning
    ".*It is recommended to use `self.log.*sync_dist=True.*",  # ranks agree on what they log
)
"""Warnings of dependencies that say nothing to a user, by name."""

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOTDIR)
"""No space left, over quota, read-only, no permission, a file where a folder should be."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb; bad input ends with exit code 2 and one message."""
    verb, *overrides = list(sys.argv[1:] if arguments is None else arguments) or ["help"]
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
    """Say what there is."""
    console.print("python -m cmaml_pl VERB key=value ...\n")
    for name, verb in VERBS.items():
        console.print(f"  {name:<10} {escape((verb.__doc__ or '').splitlines()[0])}")
    console.print(f"\nexperiments: {', '.join(experiments())}")
    console.print(f"arms: {', '.join(arms())}")
    console.print(f"sweeps: {', '.join(sweeps())}")
    console.print("for example: python -m cmaml_pl train exp=nav2d arm=cmaml seed=1 train.meta_iterations=50")


def train(overrides: Sequence[str]) -> RunFolder:
    """Meta-train an experiment, exp=NAME [arm=NAME], or go on with a checkpoint, run.resume=PATH."""
    config, folder, checkpoint = prepare_run(overrides)
    console = _console(quiet=config.quiet)
    if checkpoint and checkpoint.iterations >= config.train.meta_iterations:
        console.print(f"{folder.path} has done its {config.train.meta_iterations} meta-iterations.", soft_wrap=True)
        return folder
    trainer = build_trainer(config, folder)
    console, ranks = _console(quiet=config.quiet or not trainer.is_global_zero), find_ranks(trainer)
    with open_module(config, ranks) as module:
        if checkpoint:
            restore(module, checkpoint)  # says what does not fit before anything is touched
        with folder.claim(config) if trainer.is_global_zero else nullcontext():
            module.save_hyperparameters(flatten(config))
            name = f"{config.exp}, {config.arm}" if config.arm else config.exp
            console.print(f"{name}, seed {config.seed}: {folder.path}", soft_wrap=True)
            if ranks.size > 1:
                os.environ[RUN_ID] = folder.path.name  # for the processes that are about to be started
            path = checkpoint.path if checkpoint else None
            trainer.fit(module, build_datamodule(config), ckpt_path=path, weights_only=True)
    _exit_if_stopped(trainer, folder)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    _print_summary(console, metrics, cost_limit=config.inner.cost_limit)
    for what, where in {
        "curves": folder.learning_curves,
        "metrics": folder.metrics,
        "checkpoint": folder.last_checkpoint,
        **_wandb_run(trainer),
    }.items():
        console.print(f"  {what:<10} {where}", soft_wrap=True)
    return folder


def _exit_if_stopped(trainer: Trainer, folder: RunFolder) -> None:
    """After a signal: say how to go on, and exit with the code that schedulers and sweep agents know it by."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]  # which a connector sets
    stop = next(callback for callback in callbacks if isinstance(callback, GracefulStop))
    if stop.received is None or trainer.current_epoch == trainer.max_epochs:
        return
    if not trainer.is_global_zero:
        sys.exit()  # the first rank's code is the run's; another one here would have Lightning kill it
    logger = find_wandb_logger(trainer)
    if logger is not None and "WANDB_SWEEP_ID" in os.environ:
        logger.experiment.mark_preempting()
    print(f"Stopped by {stop.received.name}. Go on with run.resume={folder.last_checkpoint}", file=sys.stderr)
    if stop.received == stop.requeue_signal:
        if logger is not None:
            logger.experiment.finish(exit_code=128 + stop.received)  # while SLURM lets this process live
        if refusal := requeue_slurm_job():
            print(f"SLURM does not requeue the job: {refusal}", file=sys.stderr)
    sys.exit(128 + stop.received)


def evaluate(overrides: Sequence[str]) -> Path:
    """Adapt on held-out test tasks, arm by arm, from learned and random starts: run=RUN_FOLDER or run=[FOLDER,...]."""
    run, steps, out, quiet = _values("evaluate", overrides, ("run", "steps", "out", "quiet"))
    if not run:
        raise UserError("evaluate takes run=RUN_FOLDER, or run=[FOLDER,...] for several, steps=K and out=FOLDER.")
    if steps is not None and (type(steps) is not int or steps < 1):
        raise UserError(f"steps is {steps!r}, but must be a whole number, at least 1.")
    if quiet not in (None, True, False):
        raise UserError(f"quiet is {quiet!r}, but must be true or false.")
    paths = [Path(str(path)) for path in (run if isinstance(run, ListConfig) else [run])]
    return evaluate_runs(paths, steps=steps, out=Path(str(out)) if out else None, console=_console(quiet=bool(quiet)))


def sweep(overrides: Sequence[str]) -> None:
    """Create the W&B sweep of conf/sweep/NAME.yaml, exp=NAME; other overrides are for all its trials."""
    name = find_value(parse_overrides(overrides), "exp")
    if not name:
        raise UserError(f"exp is missing: exp=NAME, one of {', '.join(sweeps())}.")
    require_wandb_key("A sweep lives at W&B")
    path = create_sweep(str(name), [item for item in overrides if not item.startswith("exp=")])
    console.print(f"The sweep is {path}. Run its trials, on as many machines as you like, by", soft_wrap=True)
    console.print(f"  make agent SWEEP={path}", soft_wrap=True)


def agent(overrides: Sequence[str]) -> None:
    """Run trials of a W&B sweep until it ends, sweep=ENTITY/PROJECT/ID, or only count=N of them."""
    path, count = _values("agent", overrides, ("sweep", "count"))
    if not re.fullmatch(r"[^/]+/[^/]+/[^/]+", str(path)):
        raise UserError("agent takes sweep=ENTITY/PROJECT/ID, as `make sweep` prints it, and count=N.")
    if count is not None and (type(count) is not int or count < 1):
        raise UserError(f"count is {count!r}, but must be a whole number, at least 1.")
    require_wandb_key("A sweep lives at W&B")
    become_agent(str(path), count=count)


def export(overrides: Sequence[str]) -> None:
    """Write the policy of a checkpoint as safetensors with JSON and as ONNX: ckpt=PATH [out=FOLDER]."""
    checkpoint, out = _values("export", overrides, ("ckpt", "out"))
    if not checkpoint:
        raise UserError("export takes ckpt=PATH, a checkpoint or a run folder, and out=FOLDER.")
    try:
        from cmaml_pl.export import export_policy  # the one verb that needs its packages
    except ModuleNotFoundError as error:
        raise UserError(f"export needs the package {error.name}: pip install {error.name}, or make setup.") from None
    for path, difference in export_policy(Path(str(checkpoint)), out=Path(str(out)) if out else None).items():
        console.print(f"{path}  largest difference from the checkpoint's actions: {difference:.2g}", soft_wrap=True)


VERBS: Mapping[str, Callable[[Sequence[str]], object]] = {
    "train": train,
    "evaluate": evaluate,
    "sweep": sweep,
    "agent": agent,
    "export": export,
    "help": help_text,
}


def _values(verb: str, overrides: Sequence[str], known: Sequence[str]) -> list[Any]:
    """What the overrides of a verb give its keys, None where they give nothing."""
    request = parse_overrides(overrides)
    for key in map(str, request):
        if key not in known:
            raise UserError(f"{verb} has no key {key}.{did_you_mean(key, known)} It takes {', '.join(known)}.")
    return [find_value(request, key) for key in known]


def _console(*, quiet: bool) -> Console:
    return Console(quiet=True) if quiet else console


def _wandb_run(trainer: Trainer) -> dict[str, str]:
    """Where the W&B run is: its address, or the command that uploads an offline one."""
    logger = find_wandb_logger(trainer)
    if logger is None or not trainer.is_global_zero:
        return {}
    run = logger.experiment
    if not run.offline:
        return {"W&B": str(run.url)}
    # a run that was resumed has a folder for each stretch; all belong to one W&B run
    stretches = sorted(Path(run.dir).parents[1].glob("offline-run-*"))
    return {"W&B": f"wandb sync {' '.join(map(str, stretches))}"}


def _print_summary(console: Console, metrics: Mapping[str, float], *, cost_limit: float) -> None:
    """Return and cost before and after adaptation, on the last training and held-out tasks."""
    table = Table("tasks", "adaptation", "return", f"cost (limit {cost_limit:g})", box=None, pad_edge=False)
    for tasks, prefix in (("training", ""), ("held out", "val/")):
        for phase, label in (("pre", "before"), ("post", "after")):
            if f"{prefix}{phase}/return" in metrics:
                values = (metrics[f"{prefix}{phase}/{quantity}"] for quantity in ("return", "cost"))
                table.add_row(tasks, label, *(f"{value:.2f}" for value in values))
    console.print(table)
