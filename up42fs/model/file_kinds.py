"""The kind of a delivered file, by the file name in its link and by its first bytes.

A content type is no evidence: UP42's own example calls a zip `application/gzip` (contract fact 9).
"""

from __future__ import annotations

import re
import zlib
from urllib.parse import parse_qs, unquote, urlsplit

from up42fs.model.names import split_extension

#: Bytes from a file's start that suffice to find its kind.
HEAD_BYTES = 1024
_TAR_MAGIC, _TAR_MAGIC_AT = b"ustar", 257
#: First bytes, and the extensions of such files; the first one is used unless the link has one.
_MAGIC: tuple[tuple[bytes, tuple[str, ...]], ...] = (
    (b"PK\x03\x04", (".zip", ".kmz", ".docx", ".xlsx", ".safe")),
    (b"PK\x05\x06", (".zip", ".kmz")),
    (b"II*\0", (".tif", ".tiff", ".cog", ".gtiff")),
    (b"MM\0*", (".tif", ".tiff", ".cog", ".gtiff")),
    (b"II+\0", (".tif", ".tiff", ".cog", ".gtiff")),
    (b"MM\0+", (".tif", ".tiff", ".cog", ".gtiff")),
    (b"\0\0\0\x0cjP  \r\n\x87\n", (".jp2", ".jpx", ".jpf", ".j2k")),
    (b"\xff\x4f\xff\x51", (".j2k", ".jp2", ".j2c", ".jpc")),
    (b"\x89PNG\r\n\x1a\n", (".png",)),
    (b"\xff\xd8\xff", (".jpg", ".jpeg")),
    (b"%PDF-", (".pdf",)),
    (b"\x89HDF\r\n\x1a\n", (".h5", ".hdf5", ".he5", ".hdf", ".nc", ".nc4")),
    (b"CDF\x01", (".nc",)),
    (b"CDF\x02", (".nc",)),
    (b"NITF", (".ntf", ".nitf", ".nsf")),
    (b"BZh", (".bz2", ".tar.bz2", ".tbz2", ".tbz")),
    (b"\xfd7zXZ\0", (".xz", ".tar.xz", ".txz")),
    (b"7z\xbc\xaf\x27\x1c", (".7z",)),
    (b"<?xml", (".xml", ".kml", ".gml", ".dim", ".xmp")),
)
_GZIP_MAGIC = b"\x1f\x8b"
_GZIPPED_TAR, _GZIP = (".tgz", ".tar.gz"), (".gz",)
_FILE_NAME = re.compile(r'filename\s*=\s*(?:"([^"]*)"|([^;]*))', re.IGNORECASE)
_ENCODED_NAME = re.compile(r"filename\*\s*=\s*[\w-]*'[^']*'([^;]*)", re.IGNORECASE)


def extension(link: str | None, head: bytes | None) -> str | None:
    """The extension (with its dot) of a file with this link and these first bytes, if known.

    The bytes determine the kind; the link's file name selects among the extensions of that kind.
    """
    named = None if link is None else extension_of_link(link)
    kinds = extensions_of_bytes(head or b"")
    if not kinds or (named is not None and named.lower() in kinds):
        return named
    return kinds[0]


def extensions_of_bytes(head: bytes) -> tuple[str, ...]:
    """The extensions that a file with these first bytes may have; none if they match no kind."""
    if head.startswith(_GZIP_MAGIC):
        inside = _inflated(head)
        return _GZIPPED_TAR if _is_tar(inside) else _GZIP
    if _is_tar(head):
        return (".tar",)
    return next((found for magic, found in _MAGIC if head.startswith(magic)), ())


def extension_of_link(link: str) -> str | None:
    """The extension of the file name in a signed link: its disposition's, else its path's."""
    try:
        parts = urlsplit(link)
        dispositions = parse_qs(parts.query).get("response-content-disposition", [])
    except ValueError:
        return None
    names = [*map(_file_name, dispositions), unquote(parts.path).rpartition("/")[2]]
    return next((found for name in names if (found := _extension(name))), None)


def _file_name(disposition: str) -> str:
    encoded = _ENCODED_NAME.search(disposition)
    if encoded is not None:
        return unquote(encoded[1])
    found = _FILE_NAME.search(disposition)
    return "" if found is None else (found[1] or found[2] or "").strip()


def _extension(name: str) -> str | None:
    found = split_extension(name)[1]
    # A trailing version or date (`scene.2024`) is no extension.
    return found if found.isascii() and found and not found[1:].isdigit() else None


def _is_tar(head: bytes) -> bool:
    return head.startswith(_TAR_MAGIC, _TAR_MAGIC_AT)


def _inflated(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
    except zlib.error:
        return b""
