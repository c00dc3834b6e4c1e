"""Small stores of pairs, whose rows depend on nothing but their index."""

from __future__ import annotations

import multiprocessing

from gendiff.data.filling import write_store
from gendiff.data.pairs import Layout
from gendiff.seeding import Draws

FORK = multiprocessing.get_context("fork")  # a fresh process would import PyTorch again
LAYOUT, ORIGIN = Layout(11, (2, 3)), {"direction": "noise to data", "classes": 3}


def make(indices):
    """Rows that depend on nothing but their index."""
    first, n = int(indices[0]), len(indices)
    x0, eps = (Draws((name,), first, n, 1).normal(2, 3) for name in ("x0", "eps"))
    return {"x0": x0, "eps": eps, "label": indices % 3}


def write(folder, make=make, layout=LAYOUT, origin=ORIGIN):
    return write_store(folder, layout, origin, make, lambda done: None)


def flip(path, place=-1):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
