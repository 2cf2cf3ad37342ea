"""The version of a packed member, and the size that an unpacked stream counts with.

Knows extents and ETags; nothing of bytes.
"""

from __future__ import annotations

from up42fs.ranges import ceil_to
from up42fs.store.disk.format import CELL_BYTES
from up42fs.store.http.answer import is_strong
from up42fs.store.members.extent import Extent
from up42fs.types import Version

MIB = 1 << 20
#: Deflate cannot make more of a byte, and the other methods seldom do.
_MOST_RATIO = 1040
#: A stream counts with so many times its packed size, and with so many bytes at least.
_USUAL_RATIO = 16
_LEAST_BYTES = 16 << 30


def nominal_size(packed_size: int) -> int:
    """The size that the unpacked stream of a compressed tar counts with, bytes.

    Its real size is only known at its end, and what is kept must not depend on it. It is more than
    the stream can have, unless 16 GiB are more than 16 times the packed size and less than that.
    """
    most = max(_USUAL_RATIO * packed_size, _LEAST_BYTES)
    return ceil_to(min(_MOST_RATIO * packed_size, most) + MIB, CELL_BYTES)


def version_of(archive: Version, extent: Extent, size: int) -> Version:
    """The version of a packed member of `size` bytes; it is nameless without a strong ETag."""
    etag = archive.etag
    if etag is None or not is_strong(etag):
        return Version(size)
    crc = "" if extent.crc32 is None else f"{extent.crc32:08x}"
    place = f"{extent.header_at:x}.{extent.packed_size:x}.{size:x}.{crc}.{extent.method.value}"
    return Version(size, f'"{etag[1:-1]}!{place}"')
