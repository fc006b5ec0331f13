"""A W&B server on loopback: enough for `wandb sweep`, `wandb agent` and training runs, unmodified.

It keeps what it is sent and hands out the trials of one sweep: all at once, to save time, where W&B's own hands out one
after another. A trial that was preempted is handed out again, to go on under the same id. An agent that runs none is
told to end.
"""

import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

ENTITY, SWEEP = "team", "swp12345"


@dataclass
class ServedRun:
    """What the server knows of a run."""

    project: str
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)  # lines in the order of their offsets
    summary: dict[str, Any] = field(default_factory=dict)
    sweep: str | None = None
    preempting: bool = False
    exit_codes: list[int] = field(default_factory=list)  # one for each time that it ended


class WandbServer(ThreadingHTTPServer):
    """Serves from a thread while it is a context.

    Args:
        trials: parameters of the trials of the sweep, by run id.
    """

    daemon_threads = True

    def __init__(self, trials: dict[str, dict[str, Any]] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.trials = dict(trials or {})
        self.waiting = dict.fromkeys(self.trials, "run")  # by run id, the type of the agent's command
        self.sweep = ""  # YAML
        self.runs: dict[str, ServedRun] = {}

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that lead W&B here."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": "0" * 40, "WANDB_ERROR_REPORTING": "false"}

    def answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any] | None:
        """The data of a GraphQL answer; None where the operation is not known."""
        match operation:
            case "Viewer":
                viewer = {"id": "1", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}"}
                return {"viewer": {**viewer, "teams": {"edges": []}}}
            case "ServerFeaturesQuery":
                return {"serverInfo": {"features": []}}
            case "UpsertSweep":
                self.sweep = given["config"]
                sweep = {"name": SWEEP, "project": _project(given["projectName"])}
                return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}
            case "SweepWithRuns":
                sweep = {"id": "1", "name": SWEEP, "state": "RUNNING", "config": self.sweep, "runs": {"edges": []}}
                return {"project": {"sweep": sweep if given["sweep"] == SWEEP else None}}
            case "CreateAgent":
                return {"createAgent": {"agent": {"id": "agent"}}}
            case "Heartbeat":
                commands = json.dumps(self._commands(json.loads(given["runState"])))
                return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": commands}}
            case "RunResumeStatus":
                return {"model": {**_project(given["project"]), "bucket": self._bucket(given["name"])}}
            case "UpsertBucket":
                return {"upsertBucket": {"bucket": self._upsert(given), "inserted": True}}
            case "CreateRunFiles":
                files = [{"name": name, "uploadUrl": f"{self.url}/upload"} for name in given["files"]]
                return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}
        return None

    def _commands(self, running: dict[str, bool]) -> list[dict[str, Any]]:
        if not self.waiting and not running:
            return [{"type": "exit"}]
        waiting, self.waiting = self.waiting, {}
        return [
            {
                "type": kind,
                "program": "cmaml_pl",
                "run_id": run_id,
                "args": {key: {"value": value} for key, value in self.trials[run_id].items()},
            }
            for run_id, kind in waiting.items()
        ]

    def _bucket(self, run_id: str) -> dict[str, Any] | None:
        """A run as one that is resumed has to see it."""
        if run_id not in self.runs:
            return None
        run = self.runs[run_id]
        return {
            "id": run_id,
            "name": run_id,
            "summaryMetrics": json.dumps(run.summary),
            "displayName": run_id,
            "logLineCount": 0,
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "historyTail": json.dumps([json.dumps(line) for line in run.history[-1:]]),
            "eventsTail": "[]",
            "config": json.dumps(run.config),
            "tags": [],
            "notes": "",
            "wandbConfig": '{"t": 1}',
        }

    def _upsert(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.setdefault(given["name"], ServedRun(given["project"]))
        run.config.update(json.loads(given.get("config") or "{}"))
        run.sweep = given.get("sweep") or run.sweep
        bucket = {"id": given["name"], "name": given["name"], "displayName": given.get("displayName")}
        return {**bucket, "sweepName": run.sweep, "project": _project(run.project), "historyLineCount": 0}

    def stream(self, run_id: str, sent: dict[str, Any]) -> None:
        """Take in history, summary and exit code; a trial that ends early and was marked as preempting waits again."""
        run, files = self.runs[run_id], sent.get("files") or {}
        if "wandb-history.jsonl" in files:
            piece = files["wandb-history.jsonl"]
            run.history[piece["offset"] :] = map(json.loads, piece["content"])
        if "wandb-summary.json" in files:
            run.summary = json.loads(files["wandb-summary.json"]["content"][-1])
        run.preempting |= bool(sent.get("preempting"))
        if sent.get("complete"):
            run.exit_codes.append(sent["exitcode"])
            if run.preempting and sent["exitcode"] and run_id in self.trials:
                self.waiting[run_id] = "resume"


def _project(name: str) -> dict[str, Any]:
    return {"id": "1", "name": name, "entity": {"id": "1", "name": ENTITY}}


class _Handler(BaseHTTPRequestHandler):
    server: WandbServer

    def do_POST(self) -> None:
        sent = json.loads(self._body())
        if self.path.endswith("/file_stream"):
            self.server.stream(self.path.split("/")[-2], sent)
            self._reply({"exitcode": None, "limits": {}})
            return
        operation = re.search(r"(?:query|mutation)\s+(\w+)", sent["query"])
        data = self.server.answer(operation[1] if operation else sent["query"], sent.get("variables") or {})
        self._reply({"errors": [{"message": "unknown operation"}]} if data is None else {"data": data})

    def do_PUT(self) -> None:
        self._body()
        self._reply({})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _reply(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing on the terminal."""
