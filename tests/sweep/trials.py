"""A stand-in for the processes of a sweep's trials."""

from __future__ import annotations

from gendiff.storage import write_json

RATES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


class Trials:
    """A stand-in for the processes of trials: what each does is told beforehand.

    ``does`` maps a trial's number, from 0, to an exit code, or to losses that it logs before it
    waits to be stopped; others end with the rate as their figure.
    """

    def __init__(self, folder, does=()):
        self.folder, self.does, self.begun = folder, dict(does), []

    def __call__(self, words, env):
        name, rate = env["WANDB_RUN_ID"], float(words[-1].partition("=")[2])
        assert env["WANDB_SWEEP_ID"] == "rate"
        self.begun.append((name, words))
        what = self.does.get(RATES.index(rate), 0)
        self.code = None if isinstance(what, list) else what
        if isinstance(what, list):
            (self.folder / name / "student").mkdir(parents=True)
            rows = "".join(f"{n + 1},{loss}\n" for n, loss in enumerate(what))
            (self.folder / name / "student" / "metrics.csv").write_text(f"step,loss\n{rows}")
        if what == 0:
            figures = {"student/frechet_distance": rate, "student/loss": 1 - rate}
            write_json(self.folder / name / "trial.json", {"figures": figures})
        return self

    def poll(self):
        if isinstance(self.code, BaseException):
            error, self.code = self.code, 75
            raise error
        return self.code

    def wait(self, timeout=None):
        return self.code

    def terminate(self):
        self.code = 75
