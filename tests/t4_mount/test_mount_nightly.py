"""The nightly copy of docs/recipes.md costs nothing but what is new; logs can be cut."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from harness import REPOSITORY, Emulator, Mount, check, wait_until
from transformed_support import file, transformed

pytestmark = pytest.mark.mount


def crontab_line() -> str:
    text = (REPOSITORY / "docs/recipes.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^15 3 \* \* \*  (rsync .+)$", text, re.MULTILINE)
    return command


def test_the_nightly_copy_asks_for_nothing_that_is_there(start, mount, tmp_path: Path) -> None:
    service: Emulator = start("--synthetic", "4,2,1")
    order = service.remote.storage("add_order", display_name="Harbour")["id"]
    for number in range(12):
        files = [file(f"b{band:02}.tiff") for band in range(12)]
        transformed(service, f"scene{number}.zip", files, order_id=order)
    there: Mount = mount(service, "-o", "refresh=3600")
    archive = tmp_path / "archive"
    archive.mkdir()
    command = crontab_line().replace("~/up42", str(there.path)).replace("~/archive", str(archive))
    check("sh", "-c", command, timeout_s=240)
    there.rest()
    copied = {path.name for path in (archive / "Harbour").iterdir()}
    assert copied == {f"scene{number}.zip" for number in range(12)}
    for path in (archive / "Harbour").iterdir():
        source = there.path / "orders/Harbour" / path.name
        assert path.read_bytes() == source.read_bytes()
        assert path.stat().st_mtime_ns == source.stat().st_mtime_ns
    there.rest()
    before = service.remote.position()
    check("sh", "-c", command)
    assert service.remote.log(before) == [], "names, sizes and times are known"
    transformed(service, "late.zip", [file("b01.tiff")], order_id=order)
    (there.path / ".up42fs/refresh").touch()
    wait_until((there.path / "orders/Harbour/late.zip").exists, 10, "the delivery shows")
    there.rest()
    before = service.remote.position()
    check("sh", "-c", command)
    there.rest()
    links = [row for row in service.remote.log(before) if row["route"] == "assets.sign"]
    assert len(links) == 1, "the one that is new"
    assert (archive / "Harbour/late.zip").exists()


def test_a_log_can_be_copied_and_cut(sample: Emulator, mount) -> None:
    there: Mount = mount(sample)
    wait_until(lambda: there.log.stat().st_size > 0, 10, "something is logged")
    os.truncate(there.log, 0)
    os.kill(there.pid, signal.SIGUSR2)  # says that it logs more from now on
    wait_until(lambda: there.log.stat().st_size > 0, 15, "more is logged")
    assert b"\0" not in there.log.read_bytes(), "written at the end, not where it was"
