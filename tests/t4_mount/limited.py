"""Runs `up42fs`, and has the real kernel end this one mount if a request takes 15 s.

The settings in /proc are for all mounts of the machine. A mount may ask for a limit of its own in
its answer to FUSE_INIT (FUSE_REQUEST_TIMEOUT, Linux 6.14): so does this one, and no other notices.
"""

from __future__ import annotations

import struct
import sys
from typing import Any

from up42fs.fuse import attach as negotiate
from up42fs.fuse import handshake as init_reply

LIMIT_S = 15
#: Bit 42 of the flags, and bit 30, which says that there are more than 32.
REQUEST_TIMEOUT, INIT_EXT = 1 << 42 - 32, 1 << 30
#: The offer: a head of 40 bytes, then the flags' upper half at 16. The answer: a head of 16 bytes,
#: then the flags at 12, their upper half at 32, the limit in seconds at 40.
OFFERED_AT, FLAGS_AT, UPPER_AT, LIMIT_AT = 40 + 16, 16 + 12, 16 + 32, 16 + 40
real = init_reply.raise_limits


def with_limit(request: bytes, reply: bytes, **wishes: Any) -> tuple[bytes, Any]:
    patched, negotiated = real(request, reply, **wishes)
    answer = bytearray(patched)
    if not struct.unpack_from("=I", request, OFFERED_AT)[0] & REQUEST_TIMEOUT:
        sys.exit("this kernel knows no limit")
    for at, bit in ((FLAGS_AT, INIT_EXT), (UPPER_AT, REQUEST_TIMEOUT)):
        struct.pack_into("=I", answer, at, struct.unpack_from("=I", answer, at)[0] | bit)
    struct.pack_into("=H", answer, LIMIT_AT, LIMIT_S)
    return bytes(answer), negotiated


vars(negotiate)["raise_limits"] = with_limit

if __name__ == "__main__":
    from up42fs.cli.main import main

    sys.exit(main(sys.argv[1:]))
