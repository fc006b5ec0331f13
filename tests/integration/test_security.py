"""What a stranger's file must not do, and what must not be written."""

import contextlib
import io
import os
import pickle
import subprocess
import sys

import pytest
import torch
import wandb
from tests.commands import cmaml, refused
from tests.integration.runs import TINY

from cmaml_pl.tracking.wandb_logger import set_up_wandb


class Code:
    """Runs a command when it is unpickled by a loader that trusts it."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def as_pickle(content):
    return pickle.dumps(content)


def as_checkpoint(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("write", [as_pickle, as_checkpoint])
def test_a_checkpoint_with_code_in_it_is_refused_and_the_code_does_not_run(write, folder, tmp_path):
    mark, last = tmp_path / "the code ran", folder.last_checkpoint
    content = torch.load(last, weights_only=True)
    content["callbacks"] = Code(f"touch '{mark}'")
    last.write_bytes(write(content))
    for command in (
        ("train", f"run.resume={last}", "train.meta_iterations=3"),
        ("evaluate", f"run={folder.path}"),
        ("export", f"ckpt={folder.path}"),
    ):
        printed = refused(*command, cwd=tmp_path)
        assert printed.count("Error:") == 1
        assert "it holds code, which is never run" in printed
        assert "weights_only" not in printed  # no advice to load it all the same
    # which resume=auto takes
    assert folder.newest_good_checkpoint().path == folder.checkpoints / "previous.ckpt"
    assert "never run" in cmaml("export", f"ckpt={last}", cwd=tmp_path, code=2)
    assert not mark.exists()
    with contextlib.suppress(RuntimeError):
        torch.load(last, weights_only=False)
    assert mark.exists(), "there was no danger"


def test_what_a_meta_test_has_kept_is_no_way_for_code_either(folder, tmp_path):
    mark, kept = tmp_path / "the code ran", folder.measurements / "learned_1_steps.pt"
    kept.parent.mkdir(exist_ok=True)
    kept.write_bytes(as_checkpoint({"what": Code(f"touch '{mark}'")}))
    cmaml("evaluate", f"run={folder.path}", cwd=tmp_path)  # measured anew
    assert not mark.exists()


def test_neither_a_key_nor_the_machine_is_told(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    remote = ["git", "-C", tmp_path, "remote", "add", "origin", "https://git.example.org/secret.git"]
    subprocess.run(remote, check=True)
    key = "0123456789abcdef" * 2 + "SeCrEt42"
    assert len(key) == 40
    env = {"WANDB_API_KEY": key}
    start = ["train", "exp=nav2d", "run.id=a", "logger.wandb=offline", *TINY]
    printed = cmaml(*start, cwd=tmp_path, env=env, pictures=True)
    printed += cmaml("evaluate", "run=runs/nav2d/a", cwd=tmp_path, env=env)
    printed += cmaml("export", "ckpt=runs/nav2d/a", cwd=tmp_path, env=env)
    assert key not in printed
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    assert (tmp_path / "runs/nav2d/a/export/policy.onnx") in files
    for path in files:
        assert key.encode() not in path.read_bytes(), path
    (run,) = tmp_path.glob("runs/nav2d/a/wandb/offline-run-*")
    uploaded = [path for path in run.rglob("*") if path.is_file() and path.parent.name != "logs"]
    assert {path.suffix for path in uploaded} == {".wandb", ".png"}  # neither requirements, nor metadata, nor a console
    for told in ("git.example.org", str(tmp_path), sys.executable, TINY[0]):
        assert not any(told.encode() in path.read_bytes() for path in uploaded), told


def test_a_variable_of_the_environment_lets_wandb_record_more(monkeypatch):
    monkeypatch.setenv("WANDB__DISABLE_META", "false")
    monkeypatch.setenv("WANDB_CONSOLE", "wrap")
    set_up_wandb(offline=True)
    found = wandb.setup().settings
    assert (found.x_disable_meta, found.console) == (False, "wrap")
    assert (found.disable_git, found.host, found.x_disable_stats) == (True, "", False)
