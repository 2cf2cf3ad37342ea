"""The import contracts of pyproject.toml hold, and would notice if they did not."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

_LINT = "from importlinter.cli import lint_imports_command as run; run()"


def lint(directory: Path) -> subprocess.CompletedProcess[str]:
    """Check the copy of the package that lies in `directory`."""
    config = str(REPOSITORY / "pyproject.toml")
    done = subprocess.run(
        [sys.executable, "-c", _LINT, "--no-cache", "--config", config],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # Older versions of rich colour what no terminal reads.
    done.stdout = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    return done


def test_nothing_imports_upward() -> None:
    done = lint(REPOSITORY)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("ranges.py", "import time", "decisions do no I/O"),
        ("model/names.py", "from up42fs.api import client", "layers"),
        ("readahead/plan.py", "import trio", "decisions do no I/O"),
        ("fs/tree/layout.py", "from up42fs.fs import stats", "the file system"),
        ("store/http/source.py", "from up42fs.store import fetcher", "the byte store"),
        ("store/part.py", "from up42fs.api import client", "the two planes"),
        ("fs/tree/nodes.py", "import pyfuse3", "only fuse imports pyfuse3"),
        ("fs/tree/layout.py", "import httpx", "only the API plane speaks httpx"),
        ("emulator/clock.py", "from up42fs import types", "the emulator imports nothing else"),
    ],
)
def test_a_wrong_import_is_noticed(tmp_path: Path, module: str, line: str, contract: str) -> None:
    shutil.copytree(
        REPOSITORY / "up42fs", tmp_path / "up42fs", ignore=shutil.ignore_patterns("__pycache__")
    )
    with (tmp_path / "up42fs" / module).open("a") as source:
        source.write(f"\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout
    broken = [row for row in done.stdout.splitlines() if row.endswith("BROKEN")]
    assert any(row.startswith(contract) for row in broken), done.stdout


def test_fixtures_of_a_ring_lie_beside_its_conftest() -> None:
    """mypy looks at one module called conftest, and leaves these out: nothing may hide in them."""
    for conftest in (REPOSITORY / "tests").glob("*/conftest.py"):
        for statement in ast.parse(conftest.read_text(encoding="utf-8")).body:
            kinds = (ast.Expr, ast.Import, ast.ImportFrom, ast.Assign)  # docstring, __all__
            assert isinstance(statement, kinds), f"{conftest}: {ast.unparse(statement)}"
