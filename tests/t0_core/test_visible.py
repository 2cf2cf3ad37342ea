"""Foreign text comes out visible: no escape, no line of its own, no turn of direction."""

from __future__ import annotations

import io
import json
import logging
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import up42fs
from up42fs.cli import terminal
from up42fs.engine.prometheus import render
from up42fs.fs.edits.changes import ChangedAsset, parse_lines, to_line
from up42fs.logs import JournalFormatter, JsonFormatter, Recent, RedactingFormatter
from up42fs.model.intentions import Metadata
from up42fs.visible import visible, visible_json

HOSTILE = "a\x1b]0;title\x07\x9b31m\u202egpj.\u2066\x7f\r\nERROR forged\u2028\x85\u200f\0b"
texts = st.text() | st.text(alphabet=HOSTILE)


def is_harmless(text: str, keep: str = "") -> bool:
    return all(char.isprintable() or char in keep for char in text)


def test_hostile_means_hostile() -> None:
    """The test's own text has a character of each kind that harms."""
    kinds = {unicodedata.category(char) for char in HOSTILE}
    assert {"Cc", "Cf", "Zl"} <= kinds


@pytest.mark.claim("S144")
@given(texts)
def test_no_text_harms(text: str) -> None:
    shown = visible(text)
    assert is_harmless(shown)
    assert visible(shown) == shown
    if text.isprintable():
        assert shown == text
    assert is_harmless(visible(text, keep="\n"), keep="\n")


def test_how_it_looks() -> None:
    assert visible("a\x1b[1m\u202e\x9b\n") == r"a\x1b[1m\u202e\x9b\n"
    assert visible("\udc9b\ud800") == r"\x9b\ud800"


@given(st.text())
def test_json_stays_what_it_says(text: str) -> None:
    written = visible_json(json.dumps({text: [text]}, ensure_ascii=False, indent=1))
    assert is_harmless(written, keep="\n")
    assert json.loads(written) == {text: [text]}


def record(text: str) -> logging.LogRecord:
    try:
        raise ValueError(text)
    except ValueError as error:
        raised = (type(error), error, error.__traceback__)
    return logging.LogRecord("up42fs.x", logging.WARNING, "", 0, "said %s", (text,), raised)


@pytest.mark.claim("S144")
@given(texts)
def test_no_log_line_harms_or_is_forged(text: str) -> None:
    written = RedactingFormatter("%(levelname)s %(message)s").format(record(text))
    assert is_harmless(written, keep="\n")
    assert all(line.startswith("    ") for line in written.split("\n")[1:])
    journal = JournalFormatter("%(message)s").format(record(text))
    assert is_harmless(journal, keep="\n")
    assert all(line.startswith("<4>") for line in journal.split("\n"))
    entry = JsonFormatter().format(record(text))
    assert is_harmless(entry)
    assert json.loads(entry)["level"] == "warning"
    recent = Recent()
    recent.emit(record(text))
    assert is_harmless(recent.latest()[0]["message"])


@pytest.mark.claim("S144")
@given(texts)
def test_no_journal_of_edits_or_metric_harms(text: str) -> None:
    change = ChangedAsset(1, "2024", text, "id", text, Metadata(text, (text,)), Metadata(None, ()))
    line = to_line(change)
    assert line.endswith(b"\n")
    assert is_harmless(line[:-1].decode())
    assert text.encode(errors="ignore").decode() != text or parse_lines(line) == [change]
    for counted in render({"mountpoint": text, "version": text, "api": text}).split("\n"):
        assert is_harmless(counted)


@pytest.mark.claim("S144")
@given(texts)
def test_commands_print_lines_that_harm_nobody(text: str) -> None:
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", stream)
        terminal.say(f"undid {text}", text)
    assert is_harmless(stream.getvalue(), keep="\n")
    assert stream.getvalue().count("\n") == 2
    drawn = io.StringIO()
    from rich.text import Text

    terminal.make_console(file=drawn, soft_wrap=True).print(Text(text))
    assert is_harmless(drawn.getvalue(), keep="\n")


@pytest.mark.parametrize("columns", ["0", "1", "20"])
def test_a_table_is_drawn_however_narrow_the_terminal_says_to_be(
    monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    drawn = io.StringIO()
    terminal.make_console(file=drawn, soft_wrap=True).print("31 assets, 8 orders")
    assert drawn.getvalue() == "31 assets, 8 orders\n"


def test_nothing_prints_but_through_the_one_function() -> None:
    root = Path(up42fs.__file__).parent
    found = [
        f"{path.relative_to(root)}:{number}"
        for path in root.rglob("*.py")
        if "emulator" not in path.parts and path.name != "terminal.py"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"(?<![\w.])(print|Console|Live)\(|std(out|err)\.write", line)
        and "make_console" not in line
        and "map(visible, " not in line  # up42fs.setup, which may not import the commands
    ]
    assert not found, "use cli.terminal.say or make_console"
