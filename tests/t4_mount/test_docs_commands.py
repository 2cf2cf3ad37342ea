"""What the documentation shows is run: every block of commands, every session with its output."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from harness import REPOSITORY, Emulator, check, emulator, environ, mounted

from up42fs.cli.options import EXIT_STATUSES

pytestmark = pytest.mark.mount

PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
#: Pages that begin before there is a mount: they sign in and mount by themselves.
FROM_THE_START = {"README.md", "getting-started.md"}
#: A page takes 12 s alone on two cores, most of it the starts of Python; five workers on a machine
#: half as fast make that a minute. Only what hangs takes longer than this.
HANGS_S = 200

#: Rows of the tables of costs that neither the kernel's nor GDAL's habits can change.
COSTS = ("unzip -l assets/delivery.zip", "ls -l $S", "ls stac")


@cache
def script(name: str) -> ModuleType:
    path = REPOSITORY / "contrib" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def doc_console() -> ModuleType:
    return script("doc_console")


def blocks(page: Path, kind: str) -> list:
    found = doc_console().blocks(page.read_text(encoding="utf-8"))
    return [block for block in found if block.kind == kind and not block.why and not block.needs]


def with_blocks(kind: str) -> list:
    return [pytest.param(page, id=page.name) for page in PAGES if blocks(page, kind)]


@pytest.fixture(scope="module")
def storage() -> Iterator[Emulator]:
    """A sample storage that nothing else uses."""
    with emulator() as running:
        yield running


class Reader:
    """Somebody who reads the documentation, at home, with the commands at hand."""

    def __init__(self, home: Path, env: dict[str, str]) -> None:
        self.home = home
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = {name: value for name, value in env.items() if name != "XDG_CACHE_HOME"}
        self.env = environ(env) | {
            "HOME": str(home),
            "PATH": path,
            "COLUMNS": "100",
            "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
        }

    def types(self, script: str, cwd: Path, password: str = "") -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=self.env,
            cwd=cwd,
            input=password,
            capture_output=True,
            text=True,
            timeout=HANGS_S,
            check=False,
        )
        # `… | head` ends its left side early on purpose.
        assert done.returncode in (0, 141), (done.stdout[-2000:], done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout.replace(str(self.home), "~")


@pytest.fixture
def newcomer(storage: Emulator, tmp_path: Path) -> Reader:
    """One without an account in the environment, who types a password when asked."""
    servers = {k: v for k, v in storage.env.items() if k != "UP42_PASSWORD"}
    return Reader(tmp_path, servers)


@pytest.fixture
def user(storage: Emulator, tmp_path: Path) -> Iterator[Reader]:
    """One whose storage is mounted at ~/up42."""
    cache_dir = tmp_path / ".cache" / "up42fs"
    with mounted(storage.env, "--cache-dir", str(cache_dir), home=tmp_path) as there:
        (tmp_path / "up42").symlink_to(there.path)
        yield Reader(tmp_path, storage.env)


@pytest.mark.parametrize("page", with_blocks("sh"))
def test_commands_of(page: Path, request: pytest.FixtureRequest, storage: Emulator) -> None:
    script = "\n".join(block.text for block in blocks(page, "sh"))
    if page.name in FROM_THE_START:
        reader = request.getfixturevalue("newcomer")
        try:
            reader.types(script, reader.home, storage.env["UP42_PASSWORD"] + "\n")
        finally:
            if (reader.home / "up42").is_mount():
                check("fusermount3", "-uz", reader.home / "up42")
        return
    reader = request.getfixturevalue("user")
    # Where a path begins at the top of the mount, the page stands there.
    is_inside = "~/up42" not in script
    reader.types(script, reader.home / "up42" if is_inside else reader.home)


def needy_blocks() -> list:
    return [
        pytest.param(block, id=f"{page.name}-{block.needs[0]}")
        for page in PAGES
        for block in doc_console().blocks(page.read_text(encoding="utf-8"))
        if block.needs
    ]


@pytest.mark.parametrize("block", needy_blocks())
def test_commands_that_need_more_packages(block, request: pytest.FixtureRequest) -> None:
    for package in block.needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"no {package}: pip install 'up42fs[recipes]'")
    user: Reader = request.getfixturevalue("user")
    assert user.types(block.text, user.home).strip()


@pytest.mark.parametrize("page", with_blocks("console"))
def test_sessions_of(page: Path, user: Reader) -> None:
    console = doc_console()
    sessions = blocks(page, "console")
    steps = [(block, *step) for block in sessions for step in block.steps()]
    place = str((user.home / "up42").resolve())
    commands = [command.replace("/tmp/up42", place) for _, command, _ in steps]
    printed = console.outputs_of(user.types("set +eu\n" + console.script_of(commands), Path(place)))
    assert len(printed) == len(steps)
    for (block, command, shown), lines in zip(steps, printed, strict=True):
        lines = [re.sub(r"~/mount-\w+", "~/up42", line) for line in lines]
        if block.is_compared:
            assert console.is_like(shown, lines), (command, shown, lines)
        else:
            assert not any("No such file" in line for line in lines), (command, lines)


def test_most_of_the_documentation_is_run() -> None:
    found = [b for page in PAGES for b in doc_console().blocks(page.read_text(encoding="utf-8"))]
    # What installs packages is run by a script of its own, in a bare root.
    is_run = [not block.why or "contrib/test-people runs it" in block.why for block in found]
    assert sum(is_run) >= len(found) / 2
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        fences = len(re.findall(r"^```(?:sh|console)$", text, re.MULTILINE))
        assert fences == len(doc_console().blocks(text)), page.name


def test_tests_that_are_named_instead_exist() -> None:
    for page in PAGES:
        for block in doc_console().blocks(page.read_text(encoding="utf-8")):
            for name in re.findall(r"tests/[\w/]+\.py", block.why):
                assert (REPOSITORY / name).is_file(), name


def test_what_differs_is_told_from_what_does_not() -> None:
    like = doc_console().is_like
    assert like(["12.5 MB read", "…", "end"], ["3 kB read", "a", "b", "end"])
    assert like([], [])
    assert not like(["12 MB read"], ["12 MB written"])
    assert not like(["a"], ["a", "b"])
    assert not like(["a", "b"], ["a"])


def test_what_has_not_changed_is_not_written_anew() -> None:
    renewed = doc_console().renewed
    assert renewed(["12 MB read", "…"], ["3 kB read", "a"]) == ["12 MB read", "…"]
    assert renewed(["12 MB read", "a"], ["3 kB read", "b"]) == ["3 kB read", "b"]


def test_exit_statuses_are_in_one_table() -> None:
    page = (REPOSITORY / "docs" / "commands.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| (\d+) \| (.+?) \|$", page, re.MULTILINE))
    assert {int(number): meaning for number, meaning in table.items()} == dict(EXIT_STATUSES)


def test_costs_are_as_counted(storage: Emulator) -> None:
    doc_console()  # which `doc_costs` looks for
    costs = script("doc_costs")
    text = (REPOSITORY / "docs" / "performance.md").read_text(encoding="utf-8")
    rows = {row["command"]: row.string for _, row in costs.commands_of(text)}
    assert all(re.search(r"\| \d+ \| \d+ \| \d+ \| [\d ]+ \|$", row) for row in rows.values())
    counter = costs.Counter(storage.env, costs.shared_by(text))
    for command in COSTS:
        assert rows[command].endswith(counter.cost_of(command).cells()), command
