"""Pictures, archives and IDX files that claim what they do not hold, or lie elsewhere.

Each maker writes into a folder and returns a call that must end in a `UserError`.
"""

from __future__ import annotations

import gzip
import os
import struct
import zipfile
import zlib

from gendiff.data.idx import read_idx
from gendiff.data.images import Images, ImagesConfig


def chunk(name, data):
    crc = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + crc


def png(width, height, more=b""):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", zlib.compress(bytes(9999)))


def images_of(path):
    return lambda: Images(ImagesConfig(path=str(path), size=8, held_out=1)).train[0]


def image(data, folder):
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(data)
    return images_of(folder)


def image_link(folder):
    for name in ("a.png", "b.png"):
        (folder / name).symlink_to("/dev/zero")
    return images_of(folder)


def image_pipe(folder):
    for name in ("a.png", "b.png"):
        os.mkfifo(folder / name)
    return images_of(folder)


def lying_zip(folder, claimed):
    """A .zip whose directory says how much its members hold; they hold more."""
    path = folder / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.png", "b.png"):
            archive.writestr(name, bytes(10**6))
    data = path.read_bytes().replace(struct.pack("<I", 10**6), struct.pack("<I", claimed))
    path.write_bytes(data)
    return images_of(path)


def traversing_zip(folder):
    path = folder / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("../canary.png", "../../canary.png"):
            archive.writestr(name, png(8, 8))
    return images_of(path)


def idx(folder, sizes, data=b"", packed=False):
    path = folder / ("x.gz" if packed else "x")
    content = bytes([0, 0, 8, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + data
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    return lambda: read_idx(path, len(sizes))


DATA = {
    "PNG of 3.6 gigapixels": lambda f: image(png(60000, 60000), f),
    "PNG wider than all": lambda f: image(png(2**31 - 1, 2**31 - 1), f),
    "PNG with a long text": lambda f: image(
        png(9, 9, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(8 * 10**7), 1))), f
    ),
    "PostScript": lambda f: image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", f),
    "link to a device": image_link,
    "pipe": image_pipe,
    "member of 4 GB": lambda f: lying_zip(f, 2**32 - 2),
    "member longer than it says": lambda f: lying_zip(f, 100),
    "members out of place": traversing_zip,
    "IDX of all memory": lambda f: idx(f, (2**32 - 1,) * 3),
    "IDX that is not there": lambda f: idx(f, (2**14, 2**14)),
    "IDX that unpacks": lambda f: idx(f, (100,), bytes(10**7), packed=True),
}
