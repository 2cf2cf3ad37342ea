"""The log in a file stays small, whoever moves it; lines of the ring and of the journal."""

from __future__ import annotations

import logging
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from up42fs import logs
from up42fs.cli.log_sources import FileSource, beyond
from up42fs.errors import Unavailable
from up42fs.log_files import LogFile, Rotation, old_names


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("up42fs.x", logging.INFO, "", 0, text, (), None)


def open_files(*handlers: LogFile) -> None:
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(message)s"))


@settings(max_examples=40)
@given(
    st.lists(st.text("ab", min_size=1, max_size=60), max_size=60),
    st.integers(1, 200),
    st.integers(0, 3),
    st.integers(1, 3),
)
def test_no_line_of_the_newest_is_lost_and_no_file_grows_too_large(
    lines: list[str], most: int, old: int, writers: int
) -> None:
    """Several processes write one file in turns; what is left is the end of what was written."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "x.log"
        handlers = [LogFile(path, Rotation(most, old)) for _ in range(writers)]
        open_files(*handlers)
        for number, line in enumerate(lines):
            handlers[number % writers].emit(record(line))
        for handler in handlers:
            handler.close()
        kept = [*reversed(old_names(path, old)), path]
        found = [file.read_text().splitlines() for file in kept if file.exists()]
        assert set(os.listdir(directory)) <= {file.name for file in kept}
        whole = [line for part in found for line in part]
        assert whole == lines[len(lines) - len(whole) :]
        assert all(sum(len(line) + 1 for line in part) <= max(most, 61) for part in found)
        assert not lines or whole


def test_a_file_that_is_put_aside_hands_on_its_mode_and_takes_standard_error(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.log"
    path.touch()
    path.chmod(0o640)
    with (tmp_path / "stderr").open("w") as stderr:
        handler = LogFile(path, Rotation(10, 1))
        open_files(handler)
        handler.take_stderr(stderr.fileno())
        handler.emit(record("first"))
        handler.emit(record("second"))
        os.write(stderr.fileno(), b"libfuse\n")
        handler.close()
    assert (path.read_text(), old_names(path, 1)[0].read_text()) == ("second\nlibfuse\n", "first\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_that_changes_later_chooses_no_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "x.log"
    link.symlink_to("real/x.log")
    handler = LogFile(link, Rotation(8, 1))
    open_files(handler)
    handler.emit(record("one"))
    link.unlink()
    link.symlink_to("other")
    for word in ("two", "three"):
        handler.emit(record(word))
    assert not (tmp_path / "other").exists()
    assert (tmp_path / "real/x.log").read_text() == "three\n"
    assert (tmp_path / "real/x.log.1").read_text() == "one\ntwo\n"
    (tmp_path / "real/x.log").unlink()
    (tmp_path / "real/x.log").symlink_to("../other")
    logging.raiseExceptions, before = False, logging.raiseExceptions
    handler.emit(record("four"))
    logging.raiseExceptions = before
    handler.close()
    assert not (tmp_path / "other").exists()


def test_a_file_that_logrotate_moves_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    handler = LogFile(path, Rotation(0, 3))
    open_files(handler)
    handler.emit(record("one"))
    path.rename(tmp_path / "moved")
    handler.emit(record("two"))
    handler.close()
    assert (path.read_text(), (tmp_path / "moved").read_text()) == ("two\n", "one\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_where_nothing_can_be_renamed_the_log_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "rename", refuse)
    handler = LogFile(tmp_path / "x.log", Rotation(4, 3))
    open_files(handler)
    for word in ("one", "two", "three"):
        handler.emit(record(word))
    handler.close()
    assert (tmp_path / "x.log").read_text() == "one\ntwo\nthree\n"


# what shows it -------------------------------------------------------------------------------


@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(0, 30), st.integers(0, 30))
def test_what_a_ring_shows_later_is_found(lines: list[str], lost: int, seen: int) -> None:
    """Numbered lines: none is shown twice, none left out, unless the ring lost it."""
    numbered = [f"{number} {line}" for number, line in enumerate(lines)]
    before, now = numbered[:seen], numbered[min(lost, len(numbered)) :]
    assert beyond(before, now) == [line for line in now if line not in before]


def test_a_file_is_followed_across_its_rotation(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"1\n2\n3\nhal")
    source = FileSource(path)
    assert source.last(2) == ["2", "3"]
    with path.open("ab") as file:
        file.write(b"f\n4\n")
    assert source.more() == ["half", "4"]
    path.rename(tmp_path / "x.log.1")
    path.write_bytes(b"5\n")
    assert source.more() == ["5"]
    assert FileSource(path).last(3) == ["half", "4", "5"]
    assert source.more() == []
    with pytest.raises(Unavailable):
        FileSource(Path("/dev/null"))


def test_the_ring_is_bounded_and_holds_no_secret() -> None:
    ring = logs.Ring(most_bytes=2000)
    for number in range(100):
        ring.handle(record(f"{number} password=hunter2 {'x' * 50}"))
    text = ring.text().decode()
    assert len(text) <= 2000
    assert "99 password=<redacted>" in text
    assert "hunter2" not in text


@pytest.fixture
def root_logger() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("up42fs")
    before, our_level = (root.handlers[:], root.level), ours.level
    ours.setLevel(logging.NOTSET)  # commands that other tests ran here may have changed it
    yield
    ours.setLevel(our_level)
    for handler in root.handlers:
        handler.close()
    root.handlers[:], level = before
    root.setLevel(level)


@pytest.mark.usefixtures("root_logger")
def test_the_journal_gets_fields_and_syslog_a_line_for_the_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native, dev_log = str(tmp_path / "native"), str(tmp_path / "log")
    monkeypatch.setattr(logs, "JOURNAL", native)
    monkeypatch.setattr(logs, "SYSTEM_LOGS", (dev_log,))
    assert logs.system_log() is None
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog,
    ):
        journal.settimeout(20)
        syslog.settimeout(20)
        syslog.bind(dev_log)
        assert logs.set_up_system("info", about="/home/me/up 42") == dev_log
        assert logs.place() == "syslog"
        logging.getLogger("up42fs.x").info("hello")
        line = syslog.recv(9000).decode()
        assert line == f"<14>up42fs[{os.getpid()}]: [/home/me/up 42] up42fs.x: hello"
        logging.getLogger().handlers[0].close()
        journal.bind(native)
        assert logs.set_up_system("info", about="/home/me/up 42") == native
        assert logs.place() == "journal"
        logging.getLogger("up42fs.x").warning("two\nlines %s", "password=hunter2")
        entry = journal.recv(9000)
    assert b"UP42FS_MOUNTPOINT=/home/me/up 42\nMESSAGE\n" in entry
    message = b"up42fs.x: two\n    lines password=<redacted>"
    assert len(message).to_bytes(8, "little") + message + b"\nPRIORITY=4\n" in entry
    # A daemon that ended leaves its socket behind.
    assert logs.system_log() is None
