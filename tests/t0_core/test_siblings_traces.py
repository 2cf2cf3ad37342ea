"""What recorded tools do in directories, replayed: which files are fetched ahead, and what for."""

from __future__ import annotations

import gzip
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from harness import DATA

from up42fs.readahead.folder.order import Folder
from up42fs.readahead.folder.siblings import FolderWalks
from up42fs.readahead.folder.walk import UNIT_BYTES, Visit, WalkTrust

TRACES = DATA.parent / "traces"
needs_traces = pytest.mark.skipif(not TRACES.is_dir(), reason=f"no recorded traces at {TRACES}")


def events(case: str) -> Iterator[dict[str, Any]]:
    """Reads and releases in the order in which they began."""
    with gzip.open(TRACES / f"{case}.fuse.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    yield from sorted(
        (row for row in rows if row["op"] == "release" or (row["op"] == "read" and row["ret"])),
        key=lambda row: (row.get("t_in", row["t"]), row["op"] == "release"),
    )


def replay(case: str, least_bytes: int = 1) -> WalkTrust:
    """Every file is as long as it was read, or `least_bytes`."""
    rows = list(events(case))
    sizes: dict[str, int] = defaultdict(lambda: least_bytes)
    names: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        folder, name = os.path.split(row["path"])
        names[folder][row["path"]] = name
        if row["op"] == "read":
            sizes[row["path"]] = max(sizes[row["path"]], row["off"] + row["ret"])
    folders = {key: Folder(key, dict(sorted(found.items()))) for key, found in names.items()}
    siblings = FolderWalks(sizes.__getitem__)
    visits: dict[tuple[str, int | None], Visit] = {}
    for row in rows:
        path, handle = row["path"], (row["path"], row.get("fh"))
        if row["op"] == "release":
            for key in [key for key in visits if key[0] == path][:1]:
                siblings.on_close(visits.pop(key))
            continue
        if handle not in visits:
            folder = folders[os.path.dirname(path)]
            visits[handle] = siblings.on_first_read(
                folder, path, sizes[path], row["t"], is_ready=False
            )
        siblings.on_read(visits[handle], row["off"], row["off"] + row["ret"], row["t"])
    return siblings.trust


@needs_traces
@pytest.mark.parametrize("case", ["tar", "tar_xattrs", "rsync_aAX", "rsync_again"])
def test_copies_of_fifty_files_have_all_but_two_fetched_whole(case: str) -> None:
    trust = replay(case)
    assert (trust.asked_files, trust.read_files, trust.wasted_bytes) == (48, 48, 0)
    assert trust.asked_bytes > 48 * 1_700_000


@needs_traces
@pytest.mark.parametrize("case", ["buildvrt_50", "vrt_50_thumb"])
def test_mosaics_of_fifty_files_have_all_but_two_heads_fetched(case: str) -> None:
    trust = replay(case, 1_784_064)
    assert (trust.asked_files, trust.read_files, trust.wasted_files) == (48, 48, 0)
    assert trust.asked_bytes == 48 * UNIT_BYTES


@needs_traces
@pytest.mark.parametrize("case", ["gdalinfo_u16", "win1024_u16", "qgis_render_rgb", "unzip_l"])
def test_work_on_one_file_asks_for_no_other(case: str) -> None:
    assert replay(case).asked_files == 0
