"""A stand-in for the module wandb, that keeps what is asked of it as its server does."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from types import SimpleNamespace
from typing import Any


class Artifact:
    def __init__(self, name: str, type: str, metadata: Any = None) -> None:
        self.name, self.type, self.metadata = name, type, metadata
        self.files: dict[str, Any] = {}

    def add_file(self, path: str, name: str | None = None, policy: str = "mutable") -> None:
        self.files[name or path.rsplit("/", 1)[1]] = policy


class Run:
    """One process's hold of a run."""

    def __init__(self, server: Server, asked: dict[str, Any]) -> None:
        self.server, self.asked = server, asked
        self.config = server.configs.setdefault(asked["id"], SimpleConfig(asked["config"]))
        steps = [step for step, _ in server.rows.get(asked["id"], [])]
        self.starting_step = max(steps) + 1 if steps and asked["mode"] == "online" else 0
        self.offline = asked["mode"] != "online"
        self.next = self.starting_step
        self.summary: dict[str, Any] = {}
        self.calls: list[tuple[Any, ...]] = []

    def define_metric(self, name: str, **how: Any) -> None:
        self.calls.append(("define", name, how))

    def log(self, row: dict[str, Any], step: int, commit: bool) -> None:
        if self.server.broken:
            raise ConnectionResetError("no service")
        if step < self.next:  # W&B drops it, with a warning
            raise ValueError(f"step {step} is behind {self.next}")
        self.server.rows.setdefault(self.asked["id"], []).append((step, row))
        self.next = step + 1

    def use_artifact(self, name: str) -> None:
        if name not in self.server.versions:
            raise ValueError(f"{name} not found")
        self.calls.append(("use", name))

    def log_artifact(self, artifact: Artifact, aliases: list[str] | None = None) -> None:
        self.server.artifacts.append((self.asked["id"], artifact, aliases))
        self.server.versions |= {f"{artifact.name}:{alias}" for alias in aliases or ["latest"]}

    def mark_preempting(self) -> None:
        self.calls.append(("preempting",))

    def finish(self, exit_code: int) -> None:
        self.calls.append(("finish", exit_code))


class SimpleConfig(dict):  # type: ignore[type-arg]
    def update(self, other: Any, allow_val_change: bool = False) -> None:  # type: ignore[override]
        super().update(other)


class Server:
    """The module itself, and all that it remembers."""

    __spec__ = ModuleSpec("wandb", None)
    plot = SimpleNamespace(line=lambda table, **how: ("line", table, how))

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.rows: dict[str, list[tuple[int, Any]]] = {}
        self.configs: dict[str, Any] = {}
        self.artifacts: list[tuple[str, Artifact, Any]] = []
        self.versions: set[str] = set()
        self.failing: set[str] = set()
        self.broken, self.torn_down = False, 0
        told = {"sweep_id": "s", "run_id": "trial", "sweep_param_path": "p", "mode": "m"}
        self.settings = SimpleNamespace(**told)
        self.session = SimpleNamespace(
            settings=self.settings, _sweep_config={"lr": 1}, most_recent_active_run=None
        )
        self.seen: list[Any] = []
        self.Artifact = Artifact
        self.Settings = lambda **asked: asked
        self.Table = lambda columns, data: {"columns": columns, "data": data}
        self.Image = lambda path: ("image", path)

    def setup(self) -> Any:
        return self.session

    def teardown(self) -> None:
        self.torn_down += 1

    def init(self, **asked: Any) -> Run:
        self.seen.append({**vars(self.settings), "config": self.session._sweep_config})
        if asked["mode"] in self.failing:
            raise TimeoutError(f"{asked['mode']}: no answer")
        self.runs.append(Run(self, asked))
        return self.runs[-1]
