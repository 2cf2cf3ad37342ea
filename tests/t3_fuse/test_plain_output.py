"""Output for every terminal: none, a dumb one, one without colours, UTF-8 or width."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from harness import COMMANDS, run
from hypothesis import given
from hypothesis import strategies as st
from test_scripts import ELSEWHERE, FAILS, PARSERS

from up42fs.cli.progress import Lines, Motion, motion, progress
from up42fs.cli.terminal import ERRORS, speak_any_encoding

UP42FS = (sys.executable, "-m", "up42fs")
ESCAPE = re.compile(rb"\x1b|\r|\x08")


@pytest.mark.claim("S367")
@pytest.mark.parametrize("name", sorted(PARSERS))
def test_help_fits_80_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = PARSERS[name].format_help()
    assert [line for line in text.split("\n") if len(line) > 80] == []
    assert text.isprintable() or set(text) - {"\n"} == {c for c in text if c.isprintable()}


@pytest.mark.claim("S367")
def test_what_goes_to_no_terminal_is_plain_ascii_in_the_c_locale(tmp_path: Path) -> None:
    """All commands in one process each way: as somebody who has nothing types them."""
    script = (
        "import json, sys; from up42fs.cli.main import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    try: main(words)\n"
        "    except SystemExit: pass\n"
    )
    words = [[*name.split(), *FAILS.get(name, [])] for name in PARSERS if name not in ELSEWHERE]
    words += [[name, "--help"] for name in COMMANDS] + [["--help"], ["help"], []]
    for more in ({}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        env = {"HOME": str(tmp_path), "TERM": "xterm-256color", "COLUMNS": "80"} | more
        done = run(
            *(sys.executable, "-c", script, json.dumps(words)),
            env=env,
            cwd=tmp_path,
            input="",
        )
        said = os.fsencode(done.stdout + done.stderr)
        assert len(said) > 10_000
        assert ESCAPE.search(said) is None
        assert b"Traceback" not in said
        if more:
            assert said.isascii()


def test_shades_of_a_map_have_likes_in_ascii() -> None:
    speak_any_encoding()
    assert " ░▒▓█ … →".encode("ascii", ERRORS) == b" .:*# ... ->"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.claim("S367")
@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TERM": "xterm"}, Motion.MOVING),
        ({"TERM": "xterm", "NO_COLOR": "1"}, Motion.MOVING),
        ({"TERM": "dumb"}, Motion.LINES),
        ({}, Motion.LINES),
        ({"TERM": "xterm", "UP42FS_PROGRESS": "plain"}, Motion.LINES),
    ],
)
def test_where_the_cursor_may_move(environ: dict[str, str], expected: Motion) -> None:
    assert motion(Terminal(), environ) is expected
    assert motion(io.StringIO(), environ) is Motion.NONE


@given(
    st.integers(0, 10**9),
    st.lists(st.tuples(st.integers(0, 10**8), st.floats(0, 3)), max_size=80),
)
def test_lines_of_progress_are_few_and_never_go_back(
    total: int, steps: list[tuple[int, float]]
) -> None:
    lines, now_s, shares, told_s = Lines("copying", total), 0.0, [], []
    for count, pause_s in steps:
        now_s += pause_s
        if (line := lines.advance(count, now_s)) is not None:
            shares.append(int(line.removeprefix("copying: ").partition("%")[0]))
            told_s.append(now_s)
    assert shares == sorted(shares)
    assert all(later - sooner >= 5.0 for sooner, later in pairwise(told_s))
    assert (lines.end() is None) == (not shares)


@pytest.mark.claim("S367")
def test_progress_on_a_plain_terminal_moves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a real terminal: the bar moves the cursor, and the lines do not."""
    seen = {}
    for mode in ("plain", ""):
        master, slave = pty.openpty()
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("UP42FS_PROGRESS", mode)
        monkeypatch.setattr("up42fs.cli.progress._LINE_S", 0.0)
        with open(slave, "w") as stream:
            monkeypatch.setattr(sys, "stderr", stream)
            with progress("copying", 100) as advance:
                for _ in range(4):
                    advance(25)
            stream.flush()
            seen[mode] = os.read(master, 65536)
            monkeypatch.undo()
        os.close(master)
    plain = seen["plain"].replace(b"\r\n", b"\n")  # the terminal's own
    assert plain.startswith(b"copying: 25%, 25 bytes of 100 bytes\n")
    assert ESCAPE.search(plain) is None
    assert b"\x1b" in seen[""]


@pytest.mark.claim("S367")
def test_no_color_takes_the_colours(tmp_path: Path) -> None:
    """`doctor` colours its lines on a terminal."""
    seen = []
    for more in ({}, {"NO_COLOR": "1"}):
        master, slave = pty.openpty()
        env = {"HOME": str(tmp_path), "TERM": "xterm", "PATH": os.environ["PATH"]} | more
        pid = os.fork()
        if pid == 0:
            os.dup2(slave, 1)
            os.dup2(slave, 2)
            os.execve(sys.executable, [*UP42FS, "doctor", "--local"], env)
        os.close(slave)
        said = b""
        try:
            while piece := os.read(master, 4096):
                said += piece
        except OSError:
            pass
        os.waitpid(pid, 0)
        os.close(master)
        seen.append(said)
    assert re.search(rb"\x1b\[[0-9;]*3[0-9]m", seen[0])
    assert re.search(rb"\x1b\[[0-9;]*3[0-9]m", seen[1]) is None
