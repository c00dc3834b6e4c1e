"""Images of a folder or a .zip: what becomes of them, which are held out, and what is refused."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from gendiff.data import images
from gendiff.data.images import Images, ImagesConfig
from gendiff.errors import UserError


def picture(width, height, seed=0, channels=3):
    """Random smooth pixels, (height, width, channels) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 4, channels), dtype=np.uint8)
    bands = [Image.fromarray(coarse[..., c]).resize((width, height)) for c in range(channels)]
    return np.stack([np.asarray(band) for band in bands], -1)


def encoded(pixels, kind="PNG", mode=None, **settings):
    """A file of these pixels."""
    image = Image.fromarray(pixels.squeeze())
    image, file = (image.convert(mode) if mode else image), io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def write(target, files):
    """Files, name -> bytes, into a folder, or a .zip if that is its name; returns it."""
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w") as archive:
            for i, (name, data) in enumerate(files.items()):
                kind = zipfile.ZIP_DEFLATED if i % 2 else zipfile.ZIP_STORED
                archive.writestr(name, data, kind)
        return target
    for name, data in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(data)
    return target


def opened(path, **settings):
    settings = {"size": 8, "held_out": 1, **settings}
    return Images(ImagesConfig(path=str(path), **settings))


def all_rows(half):
    return half.__getitems__([*range(len(half))])


def only(path, data, **settings):
    """The one row to train on of a folder that holds these bytes twice, (C, H, W)."""
    write(path, {"a.png": data, "b.png": data})
    return opened(path, **settings).train[0]["x0"]


MANY = {f"{'ab'[i % 2]}/{i:02}.png": encoded(picture(9 + i, 12, i)) for i in range(12)}
CONTAINERS = pytest.mark.parametrize("container", ["folder", "x.zip"])


# ---- what becomes of an image --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height", "left", "top"), [(8, 8, 0, 0), (15, 8, 3, 0), (8, 13, 0, 2)]
)
def test_the_centre_is_cut_out(tmp_path, width, height, left, top):
    pixels = picture(width, height)
    x0 = only(tmp_path, encoded(pixels))
    wanted = torch.tensor(pixels[top : top + 8, left : left + 8]).permute(2, 0, 1)
    assert x0.dtype == torch.float32
    assert x0.equal(wanted / 127.5 - 1)


def lanczos(size, to):
    """The (to, size) matrix of antialiased resizing by sinc(x) sinc(x / 3), |x| < 3."""
    scale = size / to
    x = (np.arange(size) + 0.5 - (np.arange(to)[:, None] + 0.5) * scale) / scale
    weights = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("size", [8, 20, 31])
def test_large_images_are_resized_by_lanczos(tmp_path, size):
    pixels = np.random.default_rng(1).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    x0 = only(tmp_path, encoded(pixels), size=size)
    matrix, square = lanczos(32, size), pixels[:, 4:36].astype(float)
    # along the rows first; both passes are rounded to bytes
    wide = np.einsum("kl,jlc->jkc", matrix, square).round().clip(0, 255)
    wanted = np.einsum("ij,jkc->cik", matrix, wide).clip(0, 255)
    np.testing.assert_allclose((x0 + 1) * 127.5, wanted, rtol=0, atol=0.6)


GREY, COLOUR = picture(8, 8, channels=1), picture(8, 8)
LUMA = COLOUR @ [0.299, 0.587, 0.114]
THREE_GREY = np.repeat(GREY, 3, -1)


@pytest.mark.parametrize(
    ("data", "channels", "wanted", "off"),
    [
        (encoded(COLOUR, "PNG", "RGBA"), 3, COLOUR, 0),
        (encoded(GREY, "PNG"), 3, THREE_GREY, 0),
        (encoded(GREY, "PNG"), 1, GREY, 0),
        (encoded(GREY, "PNG", "LA"), 3, THREE_GREY, 0),
        (encoded(COLOUR, "PNG"), 1, LUMA[..., None], 0.6),
        (encoded(GREY > 127, "PNG"), 1, (GREY > 127) * 255, 0),
        (encoded(GREY, "PNG", "P", transparency=b"\0\1"), 3, THREE_GREY, 0),
        (encoded(COLOUR, "WEBP", lossless=True), 3, COLOUR, 0),
        (encoded(COLOUR, "BMP"), 3, COLOUR, 0),
        (encoded(COLOUR, "TIFF"), 3, COLOUR, 0),
        (encoded(COLOUR, "PPM"), 3, COLOUR, 0),
        (encoded(COLOUR, "JPEG", quality=100, subsampling=0), 3, COLOUR, 6),
        (encoded(COLOUR, "JPEG", "CMYK", quality=100, subsampling=0), 3, COLOUR, 6),
    ],
    ids=range(13),
)
def test_all_kinds_become_bytes_of_the_channels_asked_for(tmp_path, data, channels, wanted, off):
    x0 = only(tmp_path, data, channels=channels)
    assert x0.shape == (channels, 8, 8)
    np.testing.assert_allclose((x0 + 1) * 127.5, wanted.transpose(2, 0, 1), atol=off + 1e-4)


# ---- which images --------------------------------------------------------------------------------


@CONTAINERS
def test_every_image_is_in_one_half(tmp_path, container):
    others = ("readme.txt", ".hidden.png", "__MACOSX/._a.png", ".trash/a.png", "a/data.json")
    files = {**MANY, **dict.fromkeys(others, b"x")}
    data = opened(write(tmp_path / container, files), held_out=4)
    assert (len(data.train), len(data.held_out)) == (8, 4)
    assert sorted(data.train.names + data.held_out.names) == sorted(MANY)
    # the split is part of the data
    assert data.held_out.names == ["a/00.png", "a/02.png", "b/01.png", "b/03.png"]
    for half in (data.train, data.held_out):
        rows = all_rows(half)
        assert rows["x0"].is_contiguous()
        for name, x0 in zip(half.names, rows["x0"], strict=True):
            assert x0.equal(only(tmp_path / "alone" / name, MANY[name]))
        assert rows["label"].eq(0).all()


def test_a_zip_is_as_its_folder(tmp_path):
    settings = {"held_out": 5, "classes": 2, "flip": True}
    one, other = (opened(write(tmp_path / to, MANY), **settings) for to in ("folder", "x.zip"))
    for half in ("train", "held_out"):
        mine, theirs = all_rows(getattr(one, half)), all_rows(getattr(other, half))
        assert mine.keys() == theirs.keys() == {"x0", "label", "index"}
        assert all(mine[name].equal(theirs[name]) for name in mine)


def test_sub_folders_are_classes_in_the_order_of_their_names(tmp_path):
    files = {f"{name}/{i}/x.jpg": MANY["a/00.png"] for name in ("dog", "cat", "Eel") for i in "12"}
    data = opened(write(tmp_path, files), classes=3, held_out=2)
    for half in (data.train, data.held_out):
        folders = [["Eel", "cat", "dog"].index(name.split("/")[0]) for name in half.names]
        assert all_rows(half)["label"].tolist() == folders


def test_mirrored_rows_are_of_the_same_images(tmp_path):
    path = write(tmp_path, MANY)
    plain, both = opened(path, classes=2), opened(path, classes=2, flip=True)
    assert (len(both.train), len(both.held_out)) == (22, 1)
    rows, once = all_rows(both.train), all_rows(plain.train)
    assert rows["x0"].equal(torch.cat([once["x0"], once["x0"].flip(-1)]))
    assert rows["label"].equal(once["label"].repeat(2))
    assert rows["index"].tolist() == [*range(22)]


def test_nothing_is_opened_before_its_row_is_asked_for(tmp_path):
    data = opened(write(tmp_path, {**MANY, "c.png": b"no image"}))
    assert len(data.train) == 12
    good = data.train.names.index("b/05.png")
    assert data.train[good]["x0"].shape == (3, 8, 8)


def test_an_open_zip_travels_to_another_process(tmp_path):
    train = opened(write(tmp_path / "x.zip", MANY)).train
    before = train[3]["x0"]
    assert pickle.loads(pickle.dumps(train))[3]["x0"].equal(before)


# ---- what is refused -----------------------------------------------------------------------------

GOOD = encoded(picture(40, 40))
DAMAGED = {
    "text": (b"no image at all", "damaged, or none of PNG, JPEG"),
    "empty": (b"", "damaged, or none of"),
    "another kind": (encoded(COLOUR, "GIF"), "damaged, or none of"),
    "a program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "damaged, or none of"),
    "half a PNG": (GOOD[: len(GOOD) // 2], "cannot be used"),
    "half a JPEG": (encoded(picture(40, 40), "JPEG")[:300], "cannot be used"),
    "damaged PNG": (GOOD[:60] + b"\0\0\0\0" + GOOD[64:], "cannot be used"),
    "small": (encoded(picture(90, 7)), "90 x 7 pixels, but data.size is 8"),
    "16 bits": (encoded(GREY.astype(np.uint16) * 256), "more than 8 bits a value"),
    "floats": (encoded(GREY.astype(np.float32), "TIFF"), "more than 8 bits a value"),
}


@CONTAINERS
@pytest.mark.parametrize("kind", DAMAGED)
def test_a_bad_image_is_named(tmp_path, container, kind):
    data, message = DAMAGED[kind]
    path = write(tmp_path / container, {"a/bad.png": data, "b.png": data})
    with pytest.raises(UserError, match=r"/(a/bad|b)\.png: .*" + message) as error:
        opened(path).train[0]
    assert "\n" not in str(error.value)
    assert "object at" not in str(error.value)


@pytest.mark.parametrize("side", [11, 40])
def test_bombs_are_refused_by_pillows_own_limit(tmp_path, monkeypatch, side):
    """Beyond the limit Pillow itself only warns, beyond twice the limit it refuses."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert only(tmp_path / "small", encoded(picture(10, 10))).shape == (3, 8, 8)
    with pytest.raises(UserError, match=r"\.png: cannot be used \(Image size .* limit of [12]00 "):
        only(tmp_path / "large", encoded(picture(side, side)))


@CONTAINERS
def test_files_beyond_all_images_are_not_read(tmp_path, monkeypatch, container):
    monkeypatch.setattr(images, "LIMIT", len(GOOD) - 1)
    with pytest.raises(UserError, match=rf"/[ab]\.png: {len(GOOD)} bytes; {len(GOOD) - 1} are the"):
        opened(write(tmp_path / container, {"a.png": GOOD, "b.png": GOOD})).train[0]


def test_a_damaged_member_is_named(tmp_path):
    path = write(tmp_path / "x.zip", {"a.png": GOOD, "b.png": GOOD})
    data = path.read_bytes()
    path.write_bytes(data.replace(GOOD[50:60], b"0123456789", 1))
    halves = opened(path)
    train, held_out = halves.train, halves.held_out
    bad, good = (train, held_out) if train.names == ["a.png"] else (held_out, train)
    assert good[0]["x0"].shape == (3, 8, 8)
    with pytest.raises(UserError, match=r"x\.zip/a\.png: cannot be read \(Bad CRC-32"):
        bad[0]


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        ({}, {}, "x: 0 images"),
        ({"a.txt": b""}, {}, "x: 0 images"),
        (MANY, {"held_out": 12}, "x: 12 images .* data.held_out takes 12"),
        (MANY, {"classes": 3}, "x: 2 sub-folders with images, but data.classes is 3"),
        (MANY, {"classes": 1}, "x: 2 sub-folders"),
        ({**MANY, "c.png": GOOD}, {"classes": 2}, r"x/c\.png: lies in no sub-folder"),
    ],
)
def test_sets_that_do_not_fit_are_refused(tmp_path, files, settings, message):
    (tmp_path / "x").mkdir()
    with pytest.raises(UserError, match=message) as error:
        opened(write(tmp_path / "x", files), **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "no such folder or .zip"),
        (b"no zip", "neither a folder nor a .zip"),
        (b"", "neither a folder nor a .zip"),
    ],
)
def test_what_is_neither_folder_nor_zip_is_refused(tmp_path, data, message):
    path = tmp_path / "x.zip"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError, match=rf"x\.zip: {message}"):
        opened(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("path", ""), ("size", 0), ("channels", 2), ("classes", -1), ("held_out", 0)],
)
def test_impossible_settings_are_refused(key, value):
    with pytest.raises(ValueError, match=f"^{key}: "):
        ImagesConfig(**{"path": "x", key: value}).check()


def test_settings_say_shape_and_classes():
    config = ImagesConfig(path="x", size=64, channels=1, classes=5)
    config.check()
    assert (config.shape, config.classes) == ((1, 64, 64), 5)
