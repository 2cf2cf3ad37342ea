"""Pages of 16 and 64 KiB, as libfuse sees them there: it asks for 256 of them in one message."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import archive_support as archives
import pytest
import zip_support as zips
from harness import check, mounted

from up42fs.emulator import pattern_bytes

pytestmark = pytest.mark.mount

SIZE = 5 << 20
SHIM = "int getpagesize(void) { return %d; }"


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize("page_bytes", [16 << 10, 64 << 10])
def test_a_mount_on_large_pages_reads_right(start, tmp_path: Path, page_bytes: int) -> None:
    source, shim = tmp_path / "shim.c", tmp_path / "shim.so"
    source.write_text(SHIM % page_bytes)
    check("cc", "-shared", "-fPIC", "-o", shim, source)
    running = start("--synthetic", "3,1,1")
    for name in ("file.bin", "image.tif"):
        running.remote.storage("add_asset", name=name, size=SIZE, seed=5)
    members = archives.zip_of("delivery.zip", archives.standard_files(), zips.DEFLATED)
    content = base64.b64encode(members.data).decode()
    running.remote.storage("add_asset", name="delivery.zip", content_base64=content)
    env = running.env | {"LD_PRELOAD": str(shim), "UP42FS_PAGE_SIZE": str(page_bytes)}
    with mounted(env, home=tmp_path) as mount:
        for name in ("file.bin", "image.tif"):
            assert mount.find(name).read_bytes() == pattern_bytes(5, 0, SIZE)
        for path, data in archives.standard_files().items():
            assert (mount.path / "assets/delivery" / path).read_bytes() == data
        assert mount.status()["kernel"]["parallel_dirops"], "by the handshake of our own"
