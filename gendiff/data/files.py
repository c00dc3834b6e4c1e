"""Files of a folder or a .zip, read in place by any number of processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from gendiff.errors import UserError


class Files:
    """What lies in a folder or a .zip, at any depth; nothing is unpacked or written.

    Hidden files, and all in hidden folders, are passed over.

    Args:
        path: the folder or .zip.
        suffixes: how names of the files that count end, in lower case.

    Attributes:
        names: of the files that count, relative to ``path``, sorted: the same for a folder as for
            a .zip of what is in it.

    Raises:
        UserError: there is no such folder or .zip, or it cannot be read.
    """

    def __init__(self, path: Path, suffixes: tuple[str, ...]) -> None:
        self.path = path
        self._zip: tuple[int, ZipFile] | None = None
        if not path.exists():
            raise UserError(f"{path}: no such folder or .zip.")
        try:
            found = self._in_folder() if path.is_dir() else self._open().namelist()
        except Exception as error:  # what zipfile raises at damaged files is no short list
            raise UserError(f"{path}: neither a folder nor a .zip ({error}).") from None
        self.names = sorted({name for name in found if _counts(name, suffixes)})

    def where(self, name: str) -> str:
        """A file, as errors call it."""
        return str(self.path / name)

    def read(self, name: str, limit: int) -> bytes:
        """A file's content.

        Raises:
            UserError: it cannot be read, is damaged in its .zip, or is longer than ``limit`` bytes.
        """
        file = self.path / name
        try:
            if self.path.is_dir():
                if not file.is_file():  # reading a pipe or a device might never end
                    raise UserError("no regular file")
                size = file.stat().st_size
                if size <= limit:
                    return file.read_bytes()
            else:
                size = self._open().getinfo(name).file_size  # never more is unpacked
                if size <= limit:
                    return self._open().read(name)
        except Exception as error:
            raise UserError(f"{self.where(name)}: cannot be read ({error}).") from None
        raise UserError(f"{self.where(name)}: {size} bytes; {limit} are the most for an image.")

    def _in_folder(self) -> list[str]:
        paths = (Path(folder, name) for folder, _, names in os.walk(self.path) for name in names)
        return [path.relative_to(self.path).as_posix() for path in paths]

    def _open(self) -> ZipFile:
        """The .zip, opened once by each process: forked ones would share a place in the file."""
        if self._zip is None or self._zip[0] != os.getpid():
            self._zip = os.getpid(), ZipFile(self.path)
        return self._zip[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_zip": None}


def _counts(name: str, suffixes: tuple[str, ...]) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return not hidden and name.lower().endswith(suffixes)
