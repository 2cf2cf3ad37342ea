"""The nightly copy of docs/recipes.md costs nothing but what is new; logs can be cut."""

from __future__ import annotations

import base64
import os
import re
import signal
from pathlib import Path

import pytest
import zip_support as zips
from harness import REPOSITORY, Emulator, Mount, check, wait_until
from transformed_support import file, transformed

pytestmark = pytest.mark.mount


def commands() -> list[str]:
    """The line of a crontab, then the command above it, which copies some of the archives."""
    text = (REPOSITORY / "docs/recipes.md").read_text(encoding="utf-8")
    (nightly,) = re.findall(r"^15 3 \* \* \*  (rsync .+)$", text, re.MULTILINE)
    (some,) = re.findall(r"^rsync .+$", text, re.MULTILINE)
    return [nightly, some.replace("~/archive", "~/some")]


def test_the_nightly_copy_asks_for_nothing_that_is_there(start, mount, tmp_path: Path) -> None:
    service: Emulator = start("--synthetic", "0,0,0")
    order = service.remote.storage("add_order", display_name="Harbour")["id"]
    for number in range(12):
        files = [file(f"b{band:02}.tiff") for band in range(12)]
        transformed(service, f"scene{number}.zip", files, order_id=order)
    # Archives that UP42 did not transform have a directory each, which no copy of the night enters.
    plain = zips.zip_bytes([zips.ZipEntry("inner.zip", b"no"), zips.ZipEntry("a.tif", b"II*")])
    packed = {"content_base64": base64.b64encode(plain).decode(), "order_id": order}
    service.remote.storage("add_asset", name="PHR_plain.zip", **packed)
    there: Mount = mount(service, "-o", "refresh=3600")
    assert "PHR_plain" in os.listdir(there.path / "orders/Harbour")
    nightly, some = (
        line.replace("~/up42", str(there.path)).replace("~/", f"{tmp_path}/") for line in commands()
    )
    archive = tmp_path / "archive"
    archive.mkdir()
    before = service.remote.position()
    check("sh", "-c", nightly, timeout_s=240)
    check("sh", "-c", some, timeout_s=240)
    there.rest()
    routes = {row["route"] for row in service.remote.log(before)}
    assert routes == {"assets.sign", "store.get"}, "bytes alone, no search for files"
    expected = {f"scene{number}.zip" for number in range(12)} | {"PHR_plain.zip"}
    assert set(os.listdir(archive / "Harbour")) == expected
    assert os.listdir(tmp_path / "some/Harbour") == ["PHR_plain.zip"]
    for path in (archive / "Harbour").iterdir():
        source = there.path / "orders/Harbour" / path.name
        assert path.read_bytes() == source.read_bytes()
        assert path.stat().st_mtime_ns == source.stat().st_mtime_ns
    there.rest()
    before = service.remote.position()
    check("sh", "-c", nightly)
    check("sh", "-c", some)
    assert service.remote.log(before) == [], "names, sizes and times are known"
    transformed(service, "late.zip", [file("b01.tiff")], order_id=order)
    (there.path / ".up42fs/refresh").touch()
    wait_until((there.path / "orders/Harbour/late.zip").exists, 10, "the delivery shows")
    there.rest()
    before = service.remote.position()
    check("sh", "-c", nightly)
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
