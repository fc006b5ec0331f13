"""W&B that does not answer, answers wrongly, dies or refuses: training does not depend on it."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import wandb
from tests.commands import refused
from tests.integration.runs import TINY, assert_same_run
from tests.wandb_server import WandbServer

from cmaml_callbacks import LearningCurves
from cmaml_pl.cli import main
from cmaml_pl.runs.folder import RunFolder


@pytest.fixture
def online(monkeypatch):
    """An environment in which W&B is used, but soon given up."""
    monkeypatch.setenv("WANDB_MODE", "online")  # so that what an offline WandbLogger sets is taken back
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "2")
    yield monkeypatch
    wandb.finish()


class Answer500(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format, *arguments):
        """Nothing on the terminal."""


@contextmanager
def broken_server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer500) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def train(start: Path, *overrides: str) -> RunFolder:
    main(["train", "exp=nav2d", "run.id=a", f"run.dir={start}", "quiet=true", *TINY, *overrides])
    return RunFolder(start / "nav2d/a")


@pytest.mark.parametrize("mode", ["online", "auto"])
def test_where_nobody_answers_for_wandb_the_run_is_trained_and_recorded_offline(
    mode, online, trained, tmp_path, caplog
):
    folder = train(tmp_path, f"logger.wandb={mode}")
    assert "recorded offline" in caplog.text
    assert_same_run(folder, trained)
    assert len(list(folder.path.glob("wandb/offline-run-*/run-*.wandb"))) == 1


def test_where_wandb_answers_500_the_run_is_trained_and_recorded_offline(online, trained, tmp_path, caplog):
    with broken_server() as url:
        online.setenv("WANDB_BASE_URL", url)
        folder = train(tmp_path, "logger.wandb=online")
    assert "recorded offline" in caplog.text
    assert "HTTP 500" in caplog.text
    assert_same_run(folder, trained)


def test_a_wandb_server_that_dies_in_mid_run_costs_nothing_but_the_upload(online, trained, tmp_path):
    def die(self, trainer, *args):
        if trainer.current_epoch == 1:
            server.shutdown()
            server.server_close()

    server = WandbServer()
    online.setattr(LearningCurves, "on_train_batch_start", die)
    with server:
        for name, value in server.environment.items():
            online.setenv(name, value)
        folder = train(tmp_path, "logger.wandb=online")
        wandb.finish()
    assert_same_run(folder, trained)
    assert len(list(folder.path.glob("wandb/run-*/run-*.wandb"))) == 1  # for `wandb sync`


@pytest.mark.parametrize(
    ("variable", "value", "override", "message"),
    [
        ("WANDB_API_KEY", "short", "logger.id=b", "API key must have 40+ characters"),
        ("WANDB_API_KEY", "0" * 40, "logger.id='a/b'", "Run ID cannot contain the characters"),
        ("WANDB_MODE", "sideways", "logger.id=b", "environment, mode: Input should be 'online'"),
    ],
)
def test_what_wandb_refuses_is_told_at_once(variable, value, override, message, online, tmp_path):
    online.setenv(variable, value)
    command = ["train", "exp=nav2d", "run.id=a", f"run.dir={tmp_path}", "quiet=true", *TINY, "logger.wandb=online"]
    printed = refused(*command, override, cwd=tmp_path)
    assert message in printed
    assert printed.count("Error:") == 1
