"""What kind a file is: by its link and its first bytes, as real writers make both."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from typing import Literal
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.model import file_kinds
from up42fs.model.file_kinds import extension, extension_of_link, extensions_of_bytes

BUCKET = "https://storage.example/user-storage/"


def zipped() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a.txt", "x" * 5000)
    return made.getvalue()


def tarred(mode: Literal["w:", "w:gz", "w:bz2"]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:
        archive.addfile(tarfile.TarInfo("scene.tif"))
    return made.getvalue()


def gzipped(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(content) + packer.flush()


HEADS = {
    ".zip": zipped(),
    ".tgz": tarred("w:gz"),
    ".gz": gzipped(b"no archive" * 100),
    ".tar": tarred("w:"),
    ".bz2": tarred("w:bz2"),
    ".tif": b"II*\0\x08\0\0\0",
    ".jp2": b"\0\0\0\x0cjP  \r\n\x87\n",
    ".png": b"\x89PNG\r\n\x1a\n",
}


def link(name: str | None, path: str = "assets/0d1f5a52") -> str:
    shown = "" if name is None else f"?response-content-disposition={quote(name, safe='')}"
    return f"{BUCKET}{path}{shown}"


# Named, since a tar has the time in it, and the workers of xdist would differ.
@pytest.mark.parametrize(("found", "head"), HEADS.items(), ids=HEADS)
def test_bytes_tell_the_kind(found: str, head: bytes) -> None:
    assert extensions_of_bytes(head[: file_kinds.HEAD_BYTES])[0] == found
    assert extension(None, head) == found
    assert extension(link("attachment; filename=scene.pdf"), head) == found


@pytest.mark.parametrize(
    ("disposition", "path", "found"),
    [
        ("attachment; filename=oneatlas_1.zip", "assets/1", ".zip"),
        ('attachment; filename="my scene; 2.tiff"', "assets/1", ".tiff"),
        ("attachment; filename*=UTF-8''K%C3%B6ln.tar.gz", "assets/1", ".tar.gz"),
        ("attachment; filename=stem", "workspace/1/block-output/2/data.tgz", ".tgz"),
        (None, "workspace/1/data.tgz", ".tgz"),
        (None, "assets/0d1f5a52-0000", None),
        ("attachment; filename=scene.2024", "assets/1", None),
        ("attachment", "assets/1", None),
    ],
)
def test_links_tell_a_name(disposition: str | None, path: str, found: str | None) -> None:
    assert extension_of_link(link(disposition, path)) == found


def test_a_links_name_is_finer_than_the_bytes_where_both_agree() -> None:
    assert extension(link("attachment; filename=tour.kmz"), HEADS[".zip"]) == ".kmz"
    assert extension(link("attachment; filename=a.TIFF"), HEADS[".tif"]) == ".TIFF"
    assert extension(link("attachment; filename=a.tar.gz"), HEADS[".tgz"]) == ".tar.gz"
    assert extension(link("attachment; filename=a.dim"), b"\0\0odd") == ".dim"
    assert extension(None, b"") is None


@given(st.text(), st.binary(max_size=600))
def test_anything_may_come(text: str, head: bytes) -> None:
    found = extension(text, head)
    assert found is None or (found.startswith(".") and found.isascii() and "/" not in found)
    extension_of_link(link(text))


@given(st.binary(max_size=300), st.integers(0, 40))
def test_a_damaged_gzip_is_some_gzip(junk: bytes, cut: int) -> None:
    assert extensions_of_bytes(b"\x1f\x8b" + junk)[0] in (".gz", ".tgz")
    assert extensions_of_bytes(HEADS[".tgz"][: cut + 2])[0] in (".gz", ".tgz")
