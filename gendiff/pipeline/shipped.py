"""Finding configs and stages files: by path, beside one another, in the working folder, shipped."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
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

    Names are looked for beside ``near``, then in the working folder's ``stages`` and ``configs``,
    then among those shipped.

    Args:
        kinds: ``"stages"`` and ``"configs"``, or one of them.
        near: a stages file.

    Raises:
        UserError: nothing of that name, and the nearest are suggested; or two side by side.
    """
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = Path(name)
        if near and not path.is_absolute() and (near.parent / path).is_file():
            path = near.parent / path
        if not path.is_file():
            folders = [path.parent, *([(near.parent / path).parent] if near else [])]
            raise UserError(f"{name}: no such file.{nearest(path.stem, folders)}")
        return path, kinds[0] if len(kinds) == 1 else kind_of(path)
    places: list[Callable[[str], Path]] = [Path, shipped_folder]
    if near:
        folder = near.parent
        places = [lambda kind: folder, lambda kind: folder.parent / kind, *places]
    for place in places:
        paths = {place(kind) / f"{name}.yaml": kind for kind in kinds}
        found = [(path, kind) for path, kind in paths.items() if path.is_file()]
        if len(found) > 1:
            both = " and ".join(str(path) for path, _ in found)
            raise UserError(f"{name}: there are {both}; write the path of the one you mean.")
        if found:
            return found[0]
    known = [known for kind in kinds for known in shipped_names(kind)]
    what = " or ".join(kind.rstrip("s") for kind in kinds)
    raise UserError(f"{name}: no such {what}.{did_you_mean(name, known)}")


def nearest(stem: str, folders: list[Path]) -> str:
    """``' Did you mean 'x.yaml'?'`` of the files in some folders, by their names alone."""
    known = {path.stem: path for folder in folders for path in folder.glob("*.y*ml")}
    near = get_close_matches(stem, known, n=1)
    return f" Did you mean {str(known[near[0]])!r}?" if near else ""


def kind_of(path: Path) -> str:
    """Whether a file is a stages file or a config, by its top-level key."""
    from gendiff.yaml_files import read_yaml

    return "stages" if "stages" in read_yaml(path) else "configs"
