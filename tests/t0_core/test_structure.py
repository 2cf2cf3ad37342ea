"""What an object's bytes reveal: images, also in archives, each learned once."""

from __future__ import annotations

import io
import zipfile

from tiff_support import Image, write_tiff

from up42fs.readahead.contents import Format, Structure
from up42fs.types import ByteRange

TIFF = write_tiff([Image(64, 64, 16, [50] * 16)])
TEXT = b"no image at all " * 40


class Bytes:
    """The bytes of an object, all at hand, and how often they were asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked = 0

    def get(self, span: ByteRange) -> bytes:
        self.asked += 1
        return self.data[span.start : span.stop]


def archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        target.writestr("readme.txt", TEXT)
        target.writestr("scene.tif", TIFF)
    return out.getvalue()


def test_a_tiff_is_learned_once() -> None:
    source = Bytes(TIFF)
    structure = Structure(len(TIFF))
    structure.learn(ByteRange(0, 100), source.get)
    assert structure.format is Format.TIFF
    image = structure.image_at(0)
    assert image is not None
    assert len(image.under(ByteRange(0, len(TIFF)))) == 16
    asked = source.asked
    structure.learn(ByteRange(100, 200), source.get)
    assert source.asked == asked


def test_an_image_in_an_archive_is_one_image_however_often_its_header_is_read() -> None:
    source = Bytes(archive())
    structure = Structure(len(source.data))
    base = source.data.index(TIFF)
    header = ByteRange(base - 39, base)
    for _ in range(3):
        structure.learn(header, source.get)
    assert structure.format is Format.ZIP
    image = structure.image_at(base + 10)
    assert image is not None
    assert image.base == base
    structure.learn(header, source.get)
    assert structure.image_at(base + 10) is image
    assert structure.image_at(base - 1) is None


def test_a_member_that_is_no_image_is_looked_at_once() -> None:
    source = Bytes(archive())
    structure = Structure(len(source.data))
    text = ByteRange(60, 80)
    structure.learn(text, source.get)
    asked = source.asked
    structure.learn(text, source.get)
    assert source.asked == asked
    assert structure.image_at(60) is None


def test_the_tail_of_something_else_is_searched_once() -> None:
    """Where nobody reads the head, the end is all that tells a zip."""
    data = bytes(200_000)
    asked: list[ByteRange] = []

    def get(span: ByteRange) -> bytes | None:
        asked.append(span)
        return None if span.start < 1000 else data[span.start : span.stop]

    structure = Structure(len(data))
    end = ByteRange(190_000, 200_000)
    for _ in range(3):
        structure.learn(end, get)
    assert structure.format is Format.UNKNOWN
    assert sum(1 for span in asked if span.start >= 1000) == 1
