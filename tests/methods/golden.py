"""Losses of the first batch and of the last of each method: a refactor must leave them unchanged.

Where a change is meant, or a method is new, record them anew in the root of the repository:

    PYTHONPATH=. python tests/methods/golden.py [case ...]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from lightning.pytorch import Callback
from small import fit, make
from table import TRAINED

FILE = Path(__file__).with_name("golden.json")


class Losses(Callback):
    """Those of every batch."""

    def __init__(self):
        self.all = []

    def on_train_batch_end(self, trainer, pl_module, *rest):
        self.all.append({name: float(value) for name, value in pl_module.losses.items()})


def record(cases):
    """Write the losses of these cases, and drop those of cases that are no more."""
    known = json.loads(FILE.read_text()) if FILE.is_file() else {}
    for case in cases:
        losses = Losses()
        fit(make(case, classes=3), losses)
        known[case] = [
            {name: float(f"{value:.6g}") for name, value in batch.items()}
            for batch in (losses.all[0], losses.all[-1])
        ]
    lines = [
        f"  {json.dumps(case)}: {json.dumps(known[case])}" for case in TRAINED if case in known
    ]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    record(sys.argv[1:] or TRAINED)
