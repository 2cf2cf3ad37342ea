"""Documents of any length: written in pieces, read in slices, in bounded memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from up42fs.fs.branches import spool
from up42fs.fs.branches.spool import Spool, SpoolWriter


@given(
    st.lists(st.binary(max_size=40), max_size=20),
    st.integers(0, 300),
    st.lists(st.tuples(st.integers(0, 900), st.integers(0, 900)), max_size=5),
)
def test_what_is_written_is_read(
    pieces: list[bytes], most: int, spans: list[tuple[int, int]]
) -> None:
    before, spool.MOST_IN_MEMORY = spool.MOST_IN_MEMORY, most
    try:
        writer = SpoolWriter(None)
        for piece in pieces:
            writer.write(piece)
        content = writer.finish()
    finally:
        spool.MOST_IN_MEMORY = before
    whole = b"".join(pieces)
    assert len(content) == len(whole)
    assert content[:] == whole
    for start, stop in spans:
        assert content[start:stop] == whole[start:stop]


def test_a_long_document_takes_a_piece_of_memory_and_leaves_no_file(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        writer = SpoolWriter(tmp_path)
        for number in range(400):
            writer.write(b"%100d" % number * 1000)
        content = writer.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(content, Spool)
    assert len(content) == 40_000_000
    assert peak < 4 << 20
    assert list(tmp_path.iterdir()) == [], "it has no name, so a crash leaves nothing behind"
    assert content[39_999_900:] == b"%100d" % 399


def test_where_nothing_can_be_written_the_directory_for_temporary_files_takes_it() -> None:
    writer = SpoolWriter(Path("/proc/nothing"))
    writer.write(b"x" * (spool.MOST_IN_MEMORY + 1))
    assert len(writer.finish()) == spool.MOST_IN_MEMORY + 1
