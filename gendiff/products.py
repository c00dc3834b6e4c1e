"""What a product stage makes and another trains on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gendiff import registry
from gendiff.build import check_done, check_file
from gendiff.data.base import Batch, collate
from gendiff.data.filling import Make, write_store
from gendiff.data.pairs import STAMP, Layout, PairStore, check_shard
from gendiff.errors import UserError
from gendiff.methods.base import Method
from gendiff.ranks import here
from gendiff.sections import RunConfig


def make_product(
    method: Method,
    run: RunConfig,
    folder: Path,
    teachers: Mapping[str, str],
    progress: Callable[[int], None],
) -> dict[str, str]:
    """Make what a stage's store still lacks; every process of a group calls it.

    Args:
        folder: of the stage.
        teachers: role -> SHA-256 of its weights.
        progress: told how many rows are there.

    Returns:
        SHA-256 of all files of the store, relative to the stage's folder.

    Raises:
        UserError: the rows cannot be made or written.
    """
    (product,) = method.products
    config, inside = run.method, f"products/{product}"
    origin = {
        "direction": "data to noise" if config.inverse else "noise to data",
        "teacher": dict(teachers),
        "sampler": config.sampler,
        "solver_steps": config.solver_steps,
        "guidance": config.guidance,
        "seed": run.seed,
        "stage": method.stage,
        "classes": method.classes,
    }
    make = from_data(method, run) if config.inverse else method.produce
    layout = Layout(config.count, method.shape)
    digests = write_store(folder / inside, layout, origin, make, progress)
    return {f"{inside}/{name}": digest for name, digest in digests.items()}


def from_data(method: Any, run: RunConfig) -> Make:
    """What makes rows out of the training data's, each of the same index.

    Raises:
        UserError: more rows are asked for than the data have.
    """
    data: Any = registry.lookup("data", run.data.name)(run.data).train
    if run.method.count > len(data):
        raise UserError(
            f"{method.stage}: method.count: {run.method.count}, but with method.inverse there is "
            f"one pair a row, and {run.data.name} has {len(data)} to train on."
        )

    def make(indices: Tensor) -> Batch:
        places = indices.tolist()
        whole = getattr(data, "__getitems__", None)
        rows = collate(whole(places) if whole else [data[place] for place in places])
        return method.produce(indices, rows)

    return make


def open_product(stage: Path, product: str, run: RunConfig) -> PairStore:
    """A finished stage's rows, each file's digest checked; every process of a group calls it.

    Args:
        stage: folder of the stage that made them.
        run: what they are for.

    Raises:
        UserError: a file is missing or damaged, or the rows are not for such data.
    """
    done, ranks, inside = check_done(stage), here(), f"products/{product}"
    try:
        check_file(stage, f"{inside}/{STAMP}", done)
        store = PairStore(stage / inside)
        names = list(store.digests)

        def check() -> None:
            for name in names[slice(*ranks.share(len(names)))]:
                check_shard(store.folder / name, store.digests[name])

        ranks.together(check)
    except UserError as error:
        raise UserError(f"{error} --rerun {stage.name} makes the pairs again.") from None
    theirs = store.layout.shape, store.origin.get("classes")
    ours = tuple(run.data.shape), run.data.classes
    for what, given, wanted in zip(("shape", "classes"), theirs, ours, strict=True):
        if given != wanted:
            raise UserError(f"{store.folder}: {what} {given}, but {run.data.name} has {wanted}.")
    return store
