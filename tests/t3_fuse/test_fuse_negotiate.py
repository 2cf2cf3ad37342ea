"""The handshake: its two messages as bytes, libfuse's answer, and what happens when it fails."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pyfuse3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from up42fs.fuse.attach import HandshakeFailed, StandIn, negotiate
from up42fs.fuse.handshake import (
    DIRECT_IO_ALLOW_MMAP,
    PARALLEL_DIROPS,
    READDIRPLUS_AUTO,
    BadMessage,
    Negotiated,
    parse_offer,
    raise_limits,
)
from up42fs.fuse.mount_table import mount_at

U16 = st.integers(0, 2**16 - 1)
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
LIMIT = st.integers(1, 2**16 - 1)
#: Field by field, as linux/fuse.h has it; the last of both have grown and may grow again.
REQUEST = "=IIQQIIIHH IIII"
REPLY = "=IiQ IIIIHHIIHHI"
INIT_EXT = 1 << 30


def init_request(flags: int, unique: int = 2, *, tail: bytes = bytes(48), **other: int) -> bytes:
    size = struct.calcsize(REQUEST) + len(tail)
    head = (other.get("size", size), other.get("opcode", 26), unique, 0, 0, 0, 0, 0, 0)
    body = (other.get("major", 7), 40, 131072, flags)
    return struct.pack(REQUEST, *head, *body) + tail


def init_reply(
    flags: int, unique: int = 2, upper: int = 0, *, tail: bytes = bytes(28), **other: int
) -> bytes:
    size = struct.calcsize(REPLY) + len(tail)
    head = (other.get("size", size), other.get("error", 0), unique)
    body = (other.get("major", 7), 40, 131072, flags, 0, 0, 1 << 20, 1, 256, 0, upper)
    return struct.pack(REPLY, *head, *body) + tail


# the messages ----------------------------------------------------------------------------------


@given(offered=U32, answered=U32, unique=U64, background=LIMIT, congestion=LIMIT, data=st.data())
def test_only_the_settings_asked_for_change(
    offered: int, answered: int, unique: int, background: int, congestion: int, data: st.DataObject
) -> None:
    tail = data.draw(st.binary(max_size=60))
    upper = data.draw(U32)
    reply = init_reply(answered, unique, upper, tail=tail)
    patched, agreed = raise_limits(
        init_request(offered, unique, tail=tail),
        reply,
        max_background=background,
        congestion_threshold=congestion,
    )
    before, after = struct.unpack_from(REPLY, reply), struct.unpack_from(REPLY, patched)
    assert len(patched) == len(reply)
    assert patched[struct.calcsize(REPLY) :] == tail
    assert after[7:9] == (background, congestion)
    wanted = PARALLEL_DIROPS | READDIRPLUS_AUTO
    maps_direct = bool(parse_offer(init_request(offered, tail=tail)) & DIRECT_IO_ALLOW_MMAP)
    assert after[6] == answered | (offered & wanted) | (INIT_EXT if maps_direct else 0)
    assert after[:6] + after[9:13] == before[:6] + before[9:13]
    if maps_direct:  # what libfuse says there counts only if it says that it says it
        assert after[13] == (upper if answered & INIT_EXT else 0) | DIRECT_IO_ALLOW_MMAP >> 32
    else:
        assert after[13] == upper
    has_dirops = bool(after[6] & PARALLEL_DIROPS)
    assert agreed == Negotiated(background, congestion, has_dirops, maps_direct)


@given(
    max_write=U32, pages=U16, gran=U32, page_bytes=st.sampled_from([4 << 10, 16 << 10, 64 << 10])
)
def test_no_message_is_larger_than_the_buffer(
    max_write: int, pages: int, gran: int, page_bytes: int
) -> None:
    reply = bytearray(init_reply(0))
    struct.pack_into("=IIH", reply, 36, max_write, gran, pages)
    patched, _ = raise_limits(
        init_request(0), bytes(reply),
        max_background=64, congestion_threshold=48, page_bytes=page_bytes,
    )  # fmt: skip
    after = struct.unpack_from("=IIH", patched, 36)
    assert after == (min(max_write, 1 << 20), gran, min(pages, (1 << 20) // page_bytes))
    assert patched[46:] == reply[46:]


@given(request=st.binary(max_size=200), reply=st.binary(max_size=200))
def test_noise_is_refused(request: bytes, reply: bytes) -> None:
    with pytest.raises(BadMessage):
        raise_limits(request, reply, max_background=64, congestion_threshold=48)


@given(flags=U32, cut=st.integers(1, 79))
def test_cut_messages_are_refused(flags: int, cut: int) -> None:
    request, reply = init_request(flags), init_reply(flags)
    with pytest.raises(BadMessage):
        raise_limits(request[:-cut], reply, max_background=64, congestion_threshold=48)
    with pytest.raises(BadMessage):
        raise_limits(request, reply[:-cut], max_background=64, congestion_threshold=48)


@pytest.mark.parametrize(
    ("request_", "reply", "word"),
    [
        (init_request(0, opcode=1), init_reply(0), "request 1"),
        (init_request(0, major=8), init_reply(0), "version 8"),
        (init_request(0, size=7), init_reply(0), "version 7"),
        (init_request(0), init_reply(0, error=-71), "error 71"),
        (init_request(0), init_reply(0, major=6), "version 6"),
        (init_request(0, 4), init_reply(0, 2), "error 0"),
        (init_request(0), init_reply(0, size=7), "error 0"),
    ],
)
def test_other_messages_are_refused_with_the_reason(
    request_: bytes, reply: bytes, word: str
) -> None:
    with pytest.raises(BadMessage, match=word):
        raise_limits(request_, reply, max_background=64, congestion_threshold=48)


@given(flags=U32, unique=U64)
def test_the_offer_is_read(flags: int, unique: int) -> None:
    assert parse_offer(init_request(flags, unique)) == flags


@given(flags=U32, upper=U32)
def test_the_upper_flags_count_where_they_are_said_to_be_there(flags: int, upper: int) -> None:
    request = init_request(flags, tail=upper.to_bytes(4, sys.byteorder) + bytes(44))
    assert parse_offer(request) == flags | (upper << 32 if flags & INIT_EXT else 0)
    assert parse_offer(init_request(flags, tail=b"")) == flags


# libfuse's answer, without a kernel ------------------------------------------------------------


async def test_libfuse_answers_and_can_be_asked_again() -> None:
    """With the flags of Linux 6.18; twice, since a mount that failed is tried plainly."""
    for unique in (2, 9):
        upper = 0x3F.to_bytes(4, sys.byteorder)
        request = init_request(0x73FFFFFB, unique, tail=upper + bytes(44))
        with StandIn(pyfuse3.Operations()) as stand_in:
            reply = await stand_in.exchange(request)
            patched, agreed = raise_limits(
                request, reply, max_background=64, congestion_threshold=48
            )
            near = stand_in.detach()
        assert agreed == Negotiated(64, 48, True, True)
        assert struct.unpack_from(REPLY, patched)[2] == unique
        assert not near.get_inheritable()
        with pytest.raises(BlockingIOError):  # libfuse's end is open, and has said all
            near.recv(1)
        pyfuse3.close(unmount=False)
        assert near.recv(1) == b""
        near.close()


async def test_an_old_kernel_is_refused_by_libfuse_and_nothing_stays_open() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    request = init_request(0, major=6)
    with pytest.raises(BadMessage), StandIn(pyfuse3.Operations()) as stand_in:
        raise_limits(
            request,
            await stand_in.exchange(request),
            max_background=64,
            congestion_threshold=48,
        )
    assert sorted(os.listdir("/proc/self/fd")) == before


# failing -----------------------------------------------------------------------------------------

FAKES: dict[str, tuple[str | None, str]] = {
    "refusing": ("#!/bin/sh\necho 'fusermount3: because' >&2\nexit 1\n", "fusermount3: because"),
    "mute": ("#!/bin/sh\nexit 3\n", "status 3"),
    "without a device": ("#!/bin/sh\nexit 0\n", "no device"),
    "hanging": ("#!/bin/sh\nexec /bin/sleep 60\n", "more than 10 s"),
    "missing": (None, "fusermount3"),
}


@pytest.mark.parametrize("fake", FAKES)
async def test_a_fusermount3_that_does_not_do_is_one_kind_of_error(
    fake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    script, reason = FAKES[fake]
    if script is not None:
        (tmp_path / "fusermount3").write_text(script)
        (tmp_path / "fusermount3").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    # The clock must not run ahead of a process that is about to end by itself.
    autojump_clock.autojump_threshold = 0.01 if fake == "hanging" else float("inf")
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(HandshakeFailed, match=reason):
        await negotiate(
            pyfuse3.Operations(), tmp_path, {"ro"}, max_background=64, congestion_threshold=48
        )
    assert mount_at(tmp_path) is None
    assert sorted(os.listdir("/proc/self/fd")) == before
