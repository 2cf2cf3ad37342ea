"""What up42fs needs and does by being there: bounds for every dependency, nothing when imported."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: Import every module; whoever opens a socket to elsewhere or starts a thread or process says so.
_IMPORT_ALL = """
import importlib, pkgutil, sys, threading

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen",
                 "os.exec", "os.posix_spawn", "os.system", "urllib.Request"):
        # ctypes and the like look for libraries with programs of their own.
        program = str(arguments[0]) if arguments else ""
        if not any(word in program for word in ("ldconfig", "gcc", "cc", "ld", "objdump", "uname")):
            print(event, arguments)

sys.addaudithook(watch)
import up42fs
for module in pkgutil.walk_packages(up42fs.__path__, "up42fs."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print("threads", threading.active_count() - 1)
"""


def test_importing_does_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _IMPORT_ALL],
        capture_output=True, text=True, timeout=100, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "threads 0\n"


def test_every_dependency_has_a_lower_bound_and_no_upper_one() -> None:
    """`contrib/test-lowest` tests at these bounds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["dependencies"]
    for line in project["dependencies"]:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+>=[0-9.]+", line), line
