"""How much a start loads: counted in modules, since times depend on the machine."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

#: None of these is needed until something is asked of UP42, drawn, or looked up in a keyring.
HEAVY = frozenset(
    {
        *("trio", "httpx", "httpcore", "pycurl", "pyfuse3", "h11", "ssl", "sqlite3", "ctypes"),
        *("rich", "keyring", "tomllib", "zipfile", "email", "asyncio", "multiprocessing"),
    }
)
#: Nor these by a process that serves a mount.
NEVER_SERVING = frozenset(
    {
        *("asyncio", "multiprocessing", "concurrent.futures", "rich", "keyring", "rasterio"),
        *("numpy", "fsspec", "pystac", "lxml", "xml.dom", "statistics", "starlette", "hypercorn"),
    }
)


def loaded(statements: str) -> set[str]:
    """The modules of an interpreter of its own after it ran the statements."""
    # What the environment's `.pth` files load is not ours.
    script = (
        "import io, json, sys\nbefore = set(sys.modules)\n"
        "out, sys.stdout = sys.stdout, io.StringIO()\n"
        f"try:\n    {statements}\nexcept SystemExit:\n    pass\n"
        "print(json.dumps(sorted(set(sys.modules) - before)), file=out)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


def ours(modules: set[str]) -> list[str]:
    return sorted(module for module in modules if module.split(".")[0] == "up42fs")


def run(*arguments: str) -> str:
    return f"from up42fs.cli.main import main; main({list(arguments)!r})"


@pytest.mark.claim("S348")
@pytest.mark.parametrize(
    ("arguments", "most_ours", "most"),
    [
        # 11 and 19 of ours, 52 and 68 in all; Python's own differ by its version.
        (("--help",), 12, 75),
        (("--version",), 12, 75),
        (("status", "/"), 20, 90),
    ],
)
def test_small_commands_load_little(arguments: tuple[str, ...], most_ours: int, most: int) -> None:
    modules = loaded(run(*arguments))
    assert "up42fs.cli.main" in modules
    assert not modules & HEAVY
    assert len(ours(modules)) <= most_ours, ours(modules)
    assert len(modules) <= most, sorted(modules)


@pytest.mark.claim("S348")
def test_a_command_loads_no_other_command() -> None:
    modules = loaded(run("status", "--help"))
    assert "up42fs.cli.status" in modules
    others = {"cache", "demo", "doctor", "explain", "login", "mount", "serve", "setup", "undo"}
    assert not modules & {f"up42fs.cli.{name}" for name in others}


@pytest.mark.claim("S348")
def test_a_mount_loads_only_what_serves() -> None:
    modules = loaded("import up42fs.cli.mount, up42fs.mount.mount")
    assert not modules & NEVER_SERVING
    # 303 of ours; one that only an option or a rare file needs is loaded by what needs it.
    assert len(ours(modules)) <= 304, ours(modules)


def test_every_command_is_listed_without_being_loaded() -> None:
    script = (
        "from up42fs.cli.main import make_parser; import pathlib\n"
        "    assert make_parser(meant='').format_help() == make_parser().format_help()"
    )
    assert "up42fs.cli.emulator" in loaded(script)
