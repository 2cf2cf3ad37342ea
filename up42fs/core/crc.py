"""CRC-32 as zlib counts it, by the quickest code there is.

Every byte out of the disk cache is verified. zlib of most distributions takes nearly a second of
processor time for a GiB, ISA-L a tenth of that (carry-less multiplication), with the same result.
"""

from __future__ import annotations

try:
    from isal.isal_zlib import crc32
except ImportError:  # a processor that isal has no wheel for
    from zlib import crc32

__all__ = ["crc32"]
