"""A stand-in for W&B's server: what its agent and the runs of its trials ask over HTTP.

Of GraphQL it knows the operations by name and answers with the fields that the client reads.
Which trial is next, and which is to stop, the test says, as the server's search and hyperband do.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PLACE = {"id": "p", "name": "maps", "entity": {"id": "e", "name": "us"}}


class Run:
    """What the server has of one run."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[dict[str, Any]] = []
        """Variables of each ``UpsertBucket``."""
        self.lines: list[str] = []
        """Rows of its history, as JSON."""
        self.codes: list[int] = []
        """With which it has ended, each time."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    @property
    def config(self) -> dict[str, Any]:
        return json.loads(next((a["config"] for a in reversed(self.asked) if a["config"]), "{}"))

    def stream(self, body: dict[str, Any]) -> None:
        """Take what the client sends while the run is under way."""
        history = body.get("files", {}).get("wandb-history.jsonl")
        if history:
            assert history["offset"] == len(self.lines), "a row is missing or double"
            self.lines += history["content"]
        if body.get("complete"):
            self.codes.append(body["exitcode"])

    def bucket(self) -> dict[str, Any]:
        last = self.lines[-1] if self.lines else "{}"
        return {
            **{"id": self.name, "name": self.name, "displayName": self.name, "project": PLACE},
            **{"config": json.dumps(self.config), "summaryMetrics": last, "tags": []},
            "wandbConfig": '{"t": 1}',  # it has begun
            **{"historyLineCount": len(self.lines), "eventsLineCount": 0, "logLineCount": 0},
            **{"historyTail": json.dumps(self.lines[-1:]), "eventsTail": "[]"},
            "sweepName": self.asked[-1].get("sweep") if self.asked else None,
        }


class AgentServer:
    """The server, while the block lasts.

    Args:
        files: sweep files' texts, by the sweep's id.
        order: given a sweep's id and the ids of the trials that the agent runs, its commands.
    """

    def __init__(
        self, files: dict[str, str], order: Callable[[str, list[str]], list[dict[str, Any]]]
    ) -> None:
        self.files, self.order = files, order
        self.runs: dict[str, Run] = {}
        self.operations: list[str] = []
        self.errors: list[str] = []

    def __enter__(self) -> AgentServer:
        self.http = Listener(("127.0.0.1", 0), type("Bound", (Handler,), {"of": self}))
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.http.shutdown()
        self.http.server_close()

    def run(self, name: str) -> Run:
        return self.runs.setdefault(name, Run(name))

    def graphql(self, operation: str, said: dict[str, Any]) -> Any:
        """The ``data`` of an answer."""
        self.operations.append(operation)
        match operation:
            case "SweepWithRuns":
                what = {"id": said["sweep"], "name": said["sweep"], "state": "RUNNING"}
                what |= {"config": self.files[said["sweep"]], "runs": {"edges": []}}
                return {"project": {"sweep": what}}
            case "CreateAgent":
                return {"createAgent": {"agent": {"id": said["sweep"]}}}
            case "Heartbeat":
                running = [name for name, runs in json.loads(said["runState"]).items() if runs]
                commands = json.dumps(self.order(said["id"], running))
                return {"agentHeartbeat": {"agent": {"id": said["id"]}, "commands": commands}}
            case "Viewer":
                return {"viewer": {"id": "v", "entity": "us", "username": "us", "flags": "{}"}}
            case "RunResumeStatus":
                known = self.runs.get(said["name"])
                return {"model": {**PLACE, "bucket": known.bucket() if known else None}}
            case "UpsertBucket":
                run = self.run(said["name"])
                run.asked.append(said)
                return {"upsertBucket": {"bucket": run.bucket(), "inserted": len(run.asked) == 1}}
            case "OrganizationCoreWeaveOrganizationID":
                return {"entity": {"organization": None}}
            case "CreateRunFiles":
                files = [{"name": n, "uploadUrl": f"{self.url}/put"} for n in said["files"]]
                made = {"runID": said["run"], "uploadHeaders": [], "files": files}
                return {"createRunFiles": made}
        raise KeyError(operation)


class Listener(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """A client that has gone in the middle of a word."""


class Handler(BaseHTTPRequestHandler):
    """HTTP as far as the client speaks it."""

    of: AgentServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        if not self.path.endswith(("/graphql", "/file_stream")):  # telemetry
            self.close_connection = True  # its body is not read
            return self.answer({})
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            found = self.read(json.loads(body))
        except Exception as error:
            self.of.errors.append(f"{self.path}: {error!r}")
            found = {"errors": [{"message": f"unknown: {error}"}]}
        self.answer(found)

    def read(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.path.endswith("/graphql"):
            operation = re.search(r"(?:query|mutation)\s+(\w+)", body["query"])
            assert operation, body["query"]
            return {"data": self.of.graphql(operation[1], body.get("variables") or {})}
        self.of.run(self.path.split("/")[-2]).stream(body)
        return {}

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer({})

    do_GET = do_PUT

    def answer(self, what: dict[str, Any]) -> None:
        data = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
