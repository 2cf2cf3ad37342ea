"""Copies to files: how they are divided; places in files, and what cannot be written there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.metrics import Metrics
from up42fs.ranges import split
from up42fs.store.copying import (
    LEAST_BYTES,
    MOST_BYTES,
    MOST_LANES,
    FilePart,
    lanes_for,
    range_bytes,
)
from up42fs.store.http.tally import Tally
from up42fs.store.lanes import FilePlace, Lane
from up42fs.types import ByteRange


@given(size=st.integers(1, 1 << 45))
def test_no_copy_takes_more_requests_than_a_scan_or_more_connections_than_may_be(size: int) -> None:
    length, lanes = range_bytes(size), lanes_for(size)
    assert LEAST_BYTES <= length <= MOST_BYTES
    requests = -(-size // length)
    assert requests <= -(-size // LEAST_BYTES)
    assert 1 <= lanes <= min(MOST_LANES, requests)
    assert lanes in (MOST_LANES, requests)


def test_an_empty_file_needs_no_lane() -> None:
    assert lanes_for(0) == 0


@given(size=st.integers(1, 1 << 28))
def test_ranges_are_all_of_a_file_in_order(size: int) -> None:
    pieces = list(split(ByteRange(0, size), range_bytes(size)))
    assert [piece.start for piece in pieces[1:]] == [piece.stop for piece in pieces[:-1]]
    assert (pieces[0].start, pieces[-1].stop) == (0, size)


def test_a_lane_closes_with_its_last_user(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lane = Lane(tmp_path / "file")
    place = FilePlace(lane, 0, lambda _error: None)
    del lane
    place.lane.write(b"still open", 0)
    assert (tmp_path / "file").read_bytes() == b"still open"
    fd = place.lane._fd
    del place
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_lane_of_no_file_is_an_error_without_a_trace(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Lane(tmp_path / "absent")


async def test_bytes_go_to_their_place_and_no_further(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 30)
    part = FilePart(ByteRange(10, 20), Lane(path), Tally(Metrics()))
    assert part.write(b"abcde")
    assert part.filled == 5
    assert not part.write(b"too many bytes")
    assert part.write(b"fghij")
    assert part.missing is None
    assert path.read_bytes() == b"x" * 10 + b"abcdefghij" + b"x" * 10


async def test_a_part_that_ends_early_still_lacks_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    part = FilePart(ByteRange(10, 20), Lane(path), Tally(Metrics()))
    part.write(b"abc")
    part.finish(None)
    assert part.missing == ByteRange(13, 20)
    assert not part.write(b"d")


async def test_a_part_that_was_left_to_a_late_writer_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    part = FilePart(ByteRange(0, 20), Lane(path), Tally(Metrics()))
    part.abandon()
    assert part.stopped
    assert "disk" in str(part.fault)


FULL = """
import errno, resource, sys
from pathlib import Path
from up42fs.store.lanes import FilePlace, Lane
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
found = []
FilePlace(Lane(Path(sys.argv[1])), 900, found.append).find_fault(50)
assert not found
FilePlace(Lane(Path(sys.argv[1])), 900, found.append).find_fault(100)
print(errno.errorcode[found[0].errno])
"""


def test_why_the_disk_takes_no_more_is_found_by_trying(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "file")],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == errno.errorcode[errno.EFBIG]
