"""The files by which processes agree who refreshes."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

import pytest

from up42fs.catalog.election import Election
from up42fs.catalog.turns import Notice


@pytest.mark.claim("S271")
def test_one_is_elected_on_a_cold_cache(tmp_path: Path) -> None:
    """Before anything is stored, the directory does not exist."""
    path = tmp_path / "cache" / "catalogue" / "c.sqlite"
    one, two = Election(path), Election(path)
    assert one.stand()
    assert not two.stand()
    assert one.stand()
    assert two.elected() == os.getpid()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    one.resign()
    assert two.stand()


def test_a_deleted_lock_is_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "catalogue" / "c.sqlite"
    one, two = Election(path), Election(path)
    assert one.stand()
    path.with_suffix(".elected").unlink()
    assert two.stand()
    assert not one.stand()


def test_notices_and_wishes(tmp_path: Path) -> None:
    path = tmp_path / "catalogue" / "c.sqlite"
    one, two = Election(path), Election(path)
    assert one.stand()
    assert two.notice() is None
    assert two.wished_ns() == 0
    notice = Notice({"assets": 1.5}, {"assets": 1.5}, {"orders": "no \u00fc" * 2000}, 2.0)
    one.publish(notice)
    told = two.notice()
    assert told is not None
    assert (told.tried_s, told.alive_s) == (notice.tried_s, notice.alive_s)
    two.wish()
    assert one.wished_ns() > 0
    path.with_suffix(".notice").write_bytes(b"\0" * 100)
    assert two.notice() is None


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "catalogue" / "c.sqlite"
    path.parent.mkdir(mode=0o700)
    target = tmp_path / "mine"
    target.write_text("x")
    path.with_suffix(".elected").symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        Election(path).stand()
    assert target.read_text() == "x"


def test_an_elected_process_at_rest_has_no_file_open_for_writing(tmp_path: Path) -> None:
    """Otherwise the cache's disk could not become read-only."""
    one, two = Election(tmp_path / "a.sqlite"), Election(tmp_path / "a.sqlite")
    assert one.stand()
    assert not two.stand()
    assert one.elected() == os.getpid()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if link.readlink().is_relative_to(tmp_path):
                mode = int((Path("/proc/self/fdinfo") / link.name).read_text().split()[3], 8)
                assert mode & os.O_ACCMODE == os.O_RDONLY
    one.resign()
    assert two.stand()
    two.resign()


def test_an_election_on_nfs_locks_a_file_that_is_open_for_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def of_nfs(descriptor: int, operation: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", of_nfs)
    one, two = Election(tmp_path / "a.sqlite"), Election(tmp_path / "a.sqlite")
    assert one.stand()
    assert not two.stand()
    one.resign()
    assert two.stand()
    two.resign()
