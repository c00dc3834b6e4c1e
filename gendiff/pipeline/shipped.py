"""Finding configs and stages files: by path, beside one another, in the working folder, shipped."""

from __future__ import annotations

from pathlib import Path

import gendiff
from gendiff.errors import UserError, did_you_mean


def shipped_folder(kind: str) -> Path:
    """The ``configs`` or ``stages`` that come with gendiff: in the wheel, or in a checkout."""
    package = Path(gendiff.__file__).parent
    inside = package / kind
    return inside if inside.is_dir() else package.parent / kind


def shipped_names(kind: str) -> list[str]:
    return sorted(path.stem for path in shipped_folder(kind).glob("*.yaml"))


def find(name: str, kinds: tuple[str, ...], near: Path | None = None) -> tuple[Path, str]:
    """The file behind a name or a path, and which of ``kinds`` it was found as.

    Args:
        kinds: ``"stages"`` and ``"configs"``, in the order to look.
        near: a stages file; names are looked for beside it first.

    Raises:
        UserError: nothing of that name; the nearest names are suggested.
    """
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = Path(name)
        if near and not path.is_absolute() and (near.parent / path).is_file():
            path = near.parent / path
        if not path.is_file():
            raise UserError(f"{name}: no such file.")
        return path, kinds[0] if len(kinds) == 1 else kind_of(path)
    for kind in kinds:
        beside = [near.parent, near.parent.parent / kind] if near else []
        for folder in [*beside, Path(kind), shipped_folder(kind)]:
            path = folder / f"{name}.yaml"
            if path.is_file():
                return path, kind
    known = [known for kind in kinds for known in shipped_names(kind)]
    what = " or ".join(kind.rstrip("s") for kind in kinds)
    raise UserError(f"{name}: no such {what}.{did_you_mean(name, known)}")


def kind_of(path: Path) -> str:
    """Whether a file is a stages file or a config, by its top-level key."""
    from gendiff.yaml_files import read_yaml

    return "stages" if "stages" in read_yaml(path) else "configs"
