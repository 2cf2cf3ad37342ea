"""Readers that a mount does not see: of other users where /proc hides them, and of containers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import IN_A_NAMESPACE, REPOSITORY, Emulator, environ, interpreter_for_others

pytestmark = [pytest.mark.mount, IN_A_NAMESPACE]

SCRIPT = Path(__file__).with_name("unseen_script.py")
#: A /dev/fuse for everybody, as distributions have it, and the right to let others in.
BEGIN = """
mknod -m 666 "$1/fuse" c 10 229 && mount --bind "$1/fuse" /dev/fuse &&
echo user_allow_other > "$1/fuse.conf" && mount --bind "$1/fuse.conf" /etc/fuse.conf &&
shift && exec "$@"
"""
MIB = 1 << 20


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="up42fs-unseen-", dir="/var/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.mark.claim("S187")
@pytest.mark.parametrize(("how", "most_s"), [("visible", 1.0), ("hidden", 1.0), ("elsewhere", 9.0)])
def test_a_killed_reader_goes_and_another_goes_on(
    start, home: Path, how: str, most_s: float
) -> None:
    running: Emulator = start("--synthetic", "3,1,1")
    running.remote.storage("add_asset", name="image.tif", size=64 * MIB, seed=5)
    interpreter = interpreter_for_others()
    assert interpreter is not None
    paths = [p for p in sys.path if p and "site-packages" in p] + [str(REPOSITORY)]
    env = running.env | {
        "UNSEEN_PYTHON": interpreter,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
        "UP42FS_CRAWL_AFTER_S": "3600",
        "HOME": str(home),
    }
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
        env[name] = str(home / name)
    with subprocess.Popen(
        [
            *("unshare", "-m", "sh", "-c", BEGIN, "sh", str(home)),
            *(sys.executable, str(SCRIPT), how, str(home)),
        ],
        env=environ(env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "mounted\n"
        running.remote.faults(stall_before_headers_s=60.0)
        process.stdin.write("silent\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        running.remote.faults(stall_before_headers_s=0.0)
        process.stdin.write("healthy\n")
        process.stdin.flush()
        said = json.loads(process.stdout.readline())
        assert process.wait(60) == 0
    assert answer.pop("goes on"), "a signal that it survives is no error"
    assert max(answer.values()) < most_s, answer
    assert said.startswith("opened\n")
