"""Trains the arms of a study with all seeds, each run in a process of its own, some at once."""

import os
import runpy
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from types import FrameType

from rich.console import Console
from rich.markup import escape

from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.configuration.merging import flatten
from cmaml_pl.configuration.schema import Config
from cmaml_pl.distributed.slurm import find_requeue_signal
from cmaml_pl.errors import UserError
from cmaml_pl.forks import CAN_FORK, Fork, die_with_parent
from cmaml_pl.runs.folder import RunFolder
from cmaml_pl.runs.start import AUTO, FREE_ON_RESUME, prepare_run
from cmaml_pl.studies.definition import Study
from cmaml_pl.studies.stops import REQUEUED_BY_STUDY, StopRequest, handling
from cmaml_pl.tracking.wandb_logger import preload_wandb

PAUSE = 0.1
"""Seconds between two looks at the running processes."""


LENGTH = "train.meta_iterations"
"""The key that a run goes on with by itself, and that a study nevertheless tells of."""


@dataclass(frozen=True)
class Training:
    """One arm with one seed.

    Attributes:
        label: the arm's name.
        seed: of the run.
        arguments: of the verb train.
    """

    label: str
    seed: int
    arguments: tuple[str, ...]

    @property
    def run_id(self) -> str:
        """The name of its run folder."""
        return f"{self.label}-s{self.seed}"


@dataclass
class Running:
    """A process that trains, since `started`, s, and writes to the file `log`."""

    process: Popen[bytes] | Fork
    started: float
    log: Path


@dataclass
class _Board:
    """The state of the trainings of one call."""

    waiting: deque[Training]
    running: dict[Training, Running] = field(default_factory=dict)
    failures: dict[Training, str] = field(default_factory=dict)
    told: set[Training] = field(default_factory=set)  # that another process trains it
    ended: int = 0
    stop: signal.Signals | None = None


def list_trainings(study: Study, *, jobs: int) -> list[Training]:
    """The trainings of a study, seed by seed; where several run at once, each has one thread."""
    start = (f"exp={study.exp}", f"run.resume={AUTO}", *(["rollout.workers=1"] if jobs > 1 else []))
    return [
        Training(
            arm.name,
            seed,
            (*start, f"arm={arm.arm}", f"seed={seed}", f"run.id={arm.name}-s{seed}", *study.settings(arm)),
        )
        for seed in study.seeds
        for arm in study.arms
    ]


def run_folder(study: Study, training: Training) -> RunFolder:
    """Where a training of a study has its run."""
    return RunFolder(study.folder.parent / training.run_id)


def train_all(study: Study, trainings: Sequence[Training], *, jobs: int, console: Console) -> dict[Training, str]:
    """Run the trainings that are not complete, `jobs` at once; a line for each when it ends.

    Every training is a process of its own, so that none is lost by another's crash. Where several run at once, they are
    forks of this one. What a training prints is added to logs/RUN_ID.log in the study's folder.

    Returns:
        The message of each training that failed.

    Raises:
        StopRequest: SIGINT, SIGTERM or SLURM's signal came. The trainings were sent the same and have ended, with
            their checkpoints.
    """
    board = _Board(deque(trainings))
    (study.folder / "logs").mkdir(parents=True, exist_ok=True)
    with _passing_signals_on(board):
        while board.running or (board.waiting and board.stop is None):
            for training, running in list(board.running.items()):
                code = running.process.poll()
                if code is not None:
                    del board.running[training]
                    _settle(board, training, _outcome(code, running), len(trainings), console)
            for _ in range(len(board.waiting)):
                if len(board.running) == jobs or board.stop is not None:
                    break
                _begin(board, board.waiting.popleft(), study, jobs, len(trainings), console)
            time.sleep(PAUSE)
    if board.stop is not None:
        raise StopRequest(board.stop)
    return board.failures


def _begin(board: _Board, training: Training, study: Study, jobs: int, total: int, console: Console) -> None:
    """Start a training, unless it is complete, cannot be started, or another process trains it: then it waits."""
    folder = run_folder(study, training)
    if _is_taken(folder):
        if training not in board.told:
            console.print(f"  {training.run_id} waits: another process is training in {folder.path}", soft_wrap=True)
            board.told.add(training)
        board.waiting.append(training)
        return
    try:
        config, _, checkpoint = prepare_run(training.arguments)
    except UserError as error:
        _settle(board, training, (f"{error} In a study, run.dir=FOLDER starts new runs.", ""), total, console)
        return
    if checkpoint and (changed := _changed(config, study, training)):
        console.print(
            escape(f"  {training.run_id} keeps the settings that it was begun with: {changed}"), soft_wrap=True
        )
    done, asked = checkpoint.iterations if checkpoint else 0, config.train.meta_iterations
    if checkpoint and done >= asked:
        beyond = f"{folder.path} has done {done} of {asked} meta-iterations: set run.dir, or remove the folder"
        _settle(board, training, (beyond if done > asked else None, "complete before"), total, console)
        return
    log = study.folder / "logs" / f"{training.run_id}.log"
    variables = {REQUEUED_BY_STUDY: "1", **({"OMP_NUM_THREADS": "1"} if jobs > 1 else {})}
    process: Popen[bytes] | Fork
    if CAN_FORK and jobs > 1 and config.trainer.get("accelerator", "cpu") == "cpu":  # CUDA does not survive a fork
        if config.logger.wandb != "disabled":
            preload_wandb()
        process = Fork(partial(_train, training.arguments, variables), log)
        process.start()
    else:
        process = _start(training.arguments, variables, log)
    board.running[training] = Running(process, time.monotonic(), log)
    if board.stop is not None:  # it came just before
        process.send_signal(board.stop)


def _changed(config: Config, study: Study, training: Training) -> str:
    """What the files of the experiment and the arm now say otherwise than a run's configuration; empty if nothing."""
    now, then = flatten(load_experiment(study.exp, training.arguments)), flatten(config)
    differing = [
        f"{key} is {then.get(key)!r}, now {value!r}"
        for key, value in now.items()
        if (key == LENGTH or not key.startswith(FREE_ON_RESUME)) and then.get(key) != value
    ]
    return f"{'; '.join(differing)}. Remove its folder to train it anew." if differing else ""


def _is_taken(folder: RunFolder) -> bool:
    """Whether another process trains in a folder: one of another study, or of one that was killed."""
    if not folder.path.is_dir():
        return False
    try:
        with folder.lock():
            return False
    except UserError:
        return True


def _train(arguments: Sequence[str], variables: Mapping[str, str]) -> None:
    """Be `python -m cmaml_pl train`, in a fork."""
    os.environ.update(variables)
    sys.argv[1:] = ["train", *arguments]
    runpy.run_module("cmaml_pl", run_name="__main__", alter_sys=True)


def _start(arguments: Sequence[str], variables: Mapping[str, str], log: Path) -> Popen[bytes]:
    """Start a training as a Python of its own."""
    with log.open("ab") as output:
        return Popen(
            [sys.executable, "-m", "cmaml_pl", "train", *arguments],
            env={**os.environ, **variables},
            stdin=DEVNULL,
            stdout=output,
            stderr=STDOUT,
            start_new_session=True,  # Ctrl-C on a terminal is for this process, which passes it on, once
            preexec_fn=die_with_parent,
        )


def _outcome(code: int, running: Running) -> tuple[str | None, str]:
    """Of a process that has ended: why it failed, None if it did not; and the time that it took."""
    took = f"{time.monotonic() - running.started:.0f} s"
    if code == 0:
        return None, took
    lines = [line.strip() for line in running.log.read_text(errors="replace").splitlines() if line.strip()]
    what = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    last = next((line for line in reversed(lines) if line.startswith("Error: ")), lines[-1] if lines else "")
    return f"{what}{f', {last}' if last and code > 0 else ''} ({running.log})", took


def _settle(board: _Board, training: Training, outcome: tuple[str | None, str], total: int, console: Console) -> None:
    """Count a training that has ended, and tell how."""
    failure, took = outcome
    if failure is not None and board.stop is not None:
        return  # it was asked to
    board.ended += 1
    if failure is not None:
        board.failures[training] = failure
    text = took if failure is None else f"[red]failed[/]: {escape(failure)}"
    console.print(f"  {board.ended}/{total}  {training.run_id}: {text}", soft_wrap=True)


@contextmanager
def _passing_signals_on(board: _Board) -> Iterator[None]:
    """Within the block, signals that ask to stop go to the processes that train."""

    def stop(number: int, frame: FrameType | None) -> None:
        board.stop = board.stop or signal.Signals(number)
        for running in board.running.values():
            with suppress(ProcessLookupError):
                running.process.send_signal(number)

    requeue = find_requeue_signal()
    with handling([signal.SIGINT, signal.SIGTERM, *([requeue] if requeue else [])], stop):
        try:
            yield
        finally:  # with none running, unless this process has met an error
            for running in board.running.values():
                running.process.send_signal(signal.SIGTERM)
