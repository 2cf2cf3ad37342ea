"""Where a user's files lie."""

from __future__ import annotations

import logging
import os
import pwd
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs import logs
from up42fs.cli.keeping import kept, why_not
from up42fs.config import homes
from up42fs.config.options import MostEgress
from up42fs.config.settings import Settings, default_file, load_file

texts = st.text(st.characters(exclude_characters="\0"), max_size=12) | st.sampled_from(
    ["", "/", "~", "~/x", "relative", "./x", "/home/me", "/nonexistent"]
)


@pytest.mark.claim("S155")
@given(texts, texts)
def test_a_base_directory_is_never_relative(home: str, said: str) -> None:
    environ = {"HOME": home, "XDG_CACHE_HOME": said}
    found = homes.base(environ, "XDG_CACHE_HOME", ".cache")
    assert found.is_absolute()
    if said.startswith("/"):
        assert found == Path(said)
    elif home.startswith("/"):
        assert found == Path(home) / ".cache"
    else:
        assert found == homes.home({}) / ".cache"


def test_a_user_nobody_knows_has_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert homes.home({}) == homes.NOWHERE
    assert homes.home({"HOME": "/x"}) == Path("/x")


def test_what_cannot_be_kept_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(cache_dir=Path("/proc/no"), rw=True, max_egress=MostEgress(5, 3600.0))
    less, notes = kept(settings, {"HOME": "/nonexistent"})
    assert less.cache_size == 0
    assert [note.partition(":")[0] for note in notes] == [
        "the stored catalogue and the disk cache are not kept",
        "the journal of edits and the count of max_egress are not kept",
    ]
    settings = Settings(cache_dir=tmp_path / "deep/cache", rw=True)
    assert kept(settings, {"XDG_STATE_HOME": str(tmp_path / "state")}) == (settings, [])
    assert kept(Settings(cache_size=0), {"HOME": "/nonexistent"})[1] == []
    assert why_not(homes.NOWHERE / ".cache") == "there is no home directory"
    assert not homes.NOWHERE.exists()


def test_a_settings_file_in_a_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    path = default_file({"HOME": str(tmp_path / "file")})
    assert load_file(path, must_exist=False) == {}
    assert not homes.is_beyond(path)


def test_the_log_goes_to_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = str(tmp_path / "log")
    monkeypatch.setattr(logs, "SYSTEM_LOGS", (str(tmp_path / "none"), address))
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        assert logs.set_up_system("info") is None
        logging.getLogger("up42fs.x").warning("into nowhere")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(address)
            server.settimeout(5)
            assert logs.set_up_system("info") == address
            logging.getLogger("up42fs.x").warning("password=%s", "hunter2")
            line = server.recv(8192).decode()
            assert line == f"<12>up42fs[{os.getpid()}]: up42fs.x: password=<redacted>"
            for _ in range(2000):  # nobody reads: nothing waits
                logging.getLogger("up42fs.x").warning("x" * 1000)
    finally:
        for handler in logging.getLogger().handlers:
            handler.close()
        logging.getLogger().handlers[:] = before[0]
        logging.getLogger().setLevel(before[1])
