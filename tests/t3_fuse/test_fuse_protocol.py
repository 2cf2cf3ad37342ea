"""FUSE's messages as bytes: what is read is what was written, field by field."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from typing import NamedTuple
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from up42fs.fs.tree.nodes import Absent, Attributes, Opened
from up42fs.fuse import protocol
from up42fs.fuse.protocol import HEAD_BYTES, Entries, Names, NamesPlus, Opcode

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
NAME = st.binary(min_size=1, max_size=255).filter(
    lambda name: b"\0" not in name and b"/" not in name
)
TTL = st.sampled_from([0.0, 0.25, 1.5, 60.0, 300.0])
ATTRIBUTES = st.builds(
    Attributes,
    inode=st.integers(1, 2**63 - 1),
    mode=st.sampled_from([0o100444, 0o40555, 0o120777]),
    nlink=st.integers(0, 1000),
    size=st.integers(0, 2**62),
    mtime_ns=st.integers(-(2**62), 2**62),
    ctime_ns=st.integers(-(2**62), 2**62),
    ttl_s=TTL,
    attr_ttl_s=st.none() | TTL,
    generation=st.integers(0, 2**20),
    shown_inode=st.just(0) | st.integers(1, 2**63 - 1),
)
#: As linux/fuse.h has them, field by field.
HEAD = "=IIQQIIIHH"
ENTRY = "=QQQQII"
ATTR = "=QQQqqqIIIIIIIIII"
DIRENT = "=QQII"


class Shown(NamedTuple):
    """What the kernel makes of attributes."""

    inode: int
    size: int
    blocks: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    nlink: int
    owner: tuple[int, int]


def request(opcode: Opcode, body: bytes, node: int = 7) -> bytes:
    size = HEAD_BYTES + len(body)
    return struct.pack(HEAD, size, opcode, 99, node, 1, 2, 3, 0, 0) + body


def attributes(data: bytes) -> Shown:
    ino, size, blocks, atime, mtime, ctime, atime_ns, mtime_ns, ctime_ns, mode, nlink, *rest = (
        struct.unpack_from(ATTR, data)
    )
    uid, gid, rdev, block_size, flags = rest
    assert (atime, atime_ns) == (mtime, mtime_ns)
    assert (rdev, block_size, flags) == (0, 131_072, 0)
    second = 1_000_000_000
    assert max(mtime_ns, ctime_ns) < second
    return Shown(
        *(ino, size, blocks, mtime * second + mtime_ns, ctime * second + ctime_ns),
        *(mode, nlink, (uid, gid)),
    )


def expected(found: Attributes) -> Shown:
    number = found.shown_inode or found.inode
    blocks = 0 if found.is_part else -(-found.size // 512)
    return Shown(
        *(number, found.size, blocks, found.mtime_ns, found.ctime_ns),
        *(found.mode, found.nlink, (10, 20)),
    )


def lasting(seconds: int, nanoseconds: int) -> float:
    return seconds + nanoseconds / 1e9


def entry(data: bytes) -> tuple[int, int, float, float]:
    """Node, generation, and for how long name and attributes last."""
    node, generation, name_s, attr_s, name_ns, attr_ns = struct.unpack_from(ENTRY, data)
    return node, generation, lasting(name_s, name_ns), lasting(attr_s, attr_ns)


def told(found: Attributes) -> tuple[int, int, float, float]:
    attr_ttl_s = found.ttl_s if found.attr_ttl_s is None else found.attr_ttl_s
    return found.inode, found.generation, found.ttl_s, attr_ttl_s


# requests --------------------------------------------------------------------------------------


@given(name=NAME, rest=st.binary(max_size=50))
def test_names(name: bytes, rest: bytes) -> None:
    message = request(Opcode.LOOKUP, name + b"\0")
    head = protocol.head(message)
    assert (head.opcode, head.unique, head.node, head.uid, head.gid, head.pid) == (
        1,
        99,
        7,
        1,
        2,
        3,
    )
    # The buffer is longer than the request, and holds what stood there before.
    assert protocol.name(message + rest, head.length) == name


@given(handle=U64, offset=U64, size=U32, data=st.binary(max_size=100), rest=st.binary(max_size=50))
def test_reads_and_writes(handle: int, offset: int, size: int, data: bytes, rest: bytes) -> None:
    read = request(Opcode.READ, struct.pack("=QQIIQII", handle, offset, size, 0, 0, 0, 0))
    assert protocol.read_in(read + rest) == (handle, offset, size)
    assert protocol.fills_page_cache(read + rest)
    owned = struct.pack("=QQIIQII", handle, offset, size, 2, (1 << 64) - 1, 0, 0)
    assert not protocol.fills_page_cache(request(Opcode.READ, owned) + rest)
    body = struct.pack("=QQIIQII", handle, offset, len(data), 0, 0, 0, 0) + data
    assert protocol.write_in(request(Opcode.WRITE, body) + rest) == (handle, offset, data)
    release = request(Opcode.RELEASE, struct.pack("=QIIQ", handle, 0, 0, 0))
    assert protocol.handle(release) == handle


@given(flags=U32, size=U32, name=NAME)
def test_opens_and_attributes(flags: int, size: int, name: bytes) -> None:
    assert protocol.open_flags(request(Opcode.OPEN, struct.pack("=II", flags, 0))) == flags
    message = request(Opcode.GETXATTR, struct.pack("=II", size, 0) + name + b"\0")
    assert protocol.xattr_size(message) == size
    assert protocol.xattr_name(message + b"rest", len(message)) == name


@given(given_back=st.lists(st.tuples(U64, U64), max_size=20), rest=st.binary(max_size=50))
def test_forgets(given_back: list[tuple[int, int]], rest: bytes) -> None:
    body = struct.pack("=II", len(given_back), 0)
    body += b"".join(struct.pack("=QQ", *each) for each in given_back)
    batch = request(Opcode.BATCH_FORGET, body)
    assert protocol.forgets(batch + rest, protocol.head(batch)) == given_back
    one = request(Opcode.FORGET, struct.pack("=Q", 3), node=12)
    assert protocol.forgets(one + rest, protocol.head(one)) == [(12, 3)]


# replies ---------------------------------------------------------------------------------------


@given(found=ATTRIBUTES)
def test_the_reply_to_a_lookup_and_to_getattr(found: Attributes) -> None:
    entries = Entries(10, 20)
    reply = entries.entry(found)
    assert entry(reply) == told(found)
    assert attributes(reply[struct.calcsize(ENTRY) :]) == expected(found)
    assert len(reply) == 128
    reply = entries.attributes(found)
    assert lasting(*struct.unpack_from("=QI", reply)) == told(found)[3]
    assert attributes(reply[16:]) == expected(found)
    assert len(reply) == 104


@given(ttl_s=TTL)
def test_an_absent_name_is_node_zero(ttl_s: float) -> None:
    reply = Entries(10, 20).entry(Absent(ttl_s))
    assert len(reply) == 128
    assert entry(reply)[:3] == (0, 0, ttl_s)


@given(handle=U64, keeps=st.booleans(), is_direct=st.booleans())
def test_the_reply_to_open(handle: int, keeps: bool, is_direct: bool) -> None:
    reply = protocol.opened(Opened(handle, keep_cache=keeps, direct_io=is_direct))
    assert struct.unpack("=QII", reply) == (handle, is_direct | keeps << 1, 0)
    assert struct.unpack("=QII", protocol.opened_directory(handle)) == (handle, 0, 0)


def records(reply: bytes, before: int) -> list[tuple[bytes, int, int, int, bytes]]:
    """(what stands before it, inode, next offset, type, name) of each entry."""
    found = []
    while reply:
        inode, after, length, kind = struct.unpack_from(DIRENT, reply, before)
        start = before + struct.calcsize(DIRENT)
        found.append((reply[:before], inode, after, kind, reply[start : start + length]))
        padded = start + length + -(start + length) % 8
        assert reply[start + length : padded] == bytes(padded - start - length)
        reply = reply[padded:]
    return found


@given(
    entries=st.lists(st.tuples(NAME, ATTRIBUTES, st.booleans()), max_size=12),
    room=st.integers(0, 2000),
)
def test_a_full_listing(entries: list[tuple[bytes, Attributes, bool]], room: int) -> None:
    listing = NamesPlus(room, 10, 20)
    taken = []
    for after, (name, found, is_looked_at) in enumerate(entries, 1):
        text = name.decode("utf-8", "surrogateescape")
        if is_looked_at:
            has_room = listing.add(text, found, after)
        else:
            has_room = listing.add_name(text, found.inode, found.mode, after)
        if not has_room:
            break
        taken.append((after, name, found, is_looked_at))
    reply = listing.reply()
    assert len(reply) <= room
    seen = records(reply, 128)
    assert len(seen) == len(taken)
    for (before, *dirent), (after, name, found, is_looked_at) in zip(seen, taken, strict=True):
        number = found.shown_inode or found.inode
        assert dirent == [number if is_looked_at else found.inode, after, found.mode >> 12, name]
        if is_looked_at:
            assert entry(before) == told(found)
            assert attributes(before[40:]) == expected(found)
        else:
            assert before == bytes(128), "the kernel takes it for a name alone"
    assert listing.inodes() == [found.inode for _, _, found, is_looked_at in taken if is_looked_at]
    assert listing.is_full == all(is_looked_at for *_, is_looked_at in taken)
    if len(taken) < len(entries):
        name = entries[len(taken)][0]
        assert len(reply) + 152 + len(name) + -len(name) % 8 > room, "refused for want of room only"


@given(entries=st.lists(st.tuples(NAME, ATTRIBUTES), max_size=12), room=st.integers(0, 1000))
def test_a_listing_of_names(entries: list[tuple[bytes, Attributes]], room: int) -> None:
    names = Names(room)
    taken = []
    for after, (name, found) in enumerate(entries, 1):
        if not names.add(name.decode("utf-8", "surrogateescape"), found.inode, found.mode, after):
            break
        taken.append((b"", found.inode, after, found.mode >> 12, name))
    assert len(names.reply()) <= room
    assert records(names.reply(), 0) == taken


@given(st.integers(1, 40), st.integers(0, 60), st.integers(0, 2))
def test_a_listing_ends_with_its_time_but_is_never_empty(
    entries: int, ticks: int, kind: int
) -> None:
    """Each entry takes one tick of the clock."""
    names, plus = Names(1 << 20, ticks), NamesPlus(1 << 20, 10, 20, ticks)
    found = Attributes(7, 0o100444, 1, 5, 1, 2, 300.0)
    offered: list[Callable[[int], bool]] = [
        lambda after: names.add("name", 7, 1, after),
        lambda after: plus.add_name("name", 7, 1, after),
        lambda after: plus.add("name", found, after),
    ]
    with mock.patch.object(protocol, "perf_counter", itertools.count().__next__):
        taken = len(list(itertools.takewhile(offered[kind], range(1, entries + 1))))
    assert taken == min(entries, max(1, ticks + 1))


def test_heads_and_refusals() -> None:
    assert struct.unpack("=IiQ", protocol.reply_head(5, 100)) == (116, 0, 5)
    assert struct.unpack("=IiQ", protocol.refusal(5, 2)) == (16, -2, 5)


@given(parent=U64, name=NAME)
def test_notifications(parent: int, name: bytes) -> None:
    message = protocol.forget_name(parent, name)
    length, code, unique, directory, size, flags = struct.unpack_from("=IiQQII", message)
    assert (length, code, unique, directory) == (len(message), 3, 0, parent)
    assert (size, flags, message[32:]) == (len(name), 0, name + b"\0")
    message = protocol.forget_attributes(parent)
    # A negative offset: attributes alone, the pages stay.
    assert struct.unpack("=IiQQqq", message) == (40, 2, 0, parent, -1, 0)
