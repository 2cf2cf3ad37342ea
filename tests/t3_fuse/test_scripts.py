"""What scripts rely on: exit statuses, `--json`, and no question without a terminal."""

from __future__ import annotations

import argparse
import io
import json
import os
from pathlib import Path

import pytest
from harness import COMMANDS
from hypothesis import given
from hypothesis import strategies as st

from up42fs.cli import waiting
from up42fs.cli.main import main, make_parser
from up42fs.errors import Unavailable

#: They write bytes, run the user's command, print JSON anyway, or print nothing.
WITHOUT_JSON = {"cat", "demo", "emulator", "thumbnail"}


def parsers() -> dict[str, argparse.ArgumentParser]:
    found: dict[str, argparse.ArgumentParser] = {}

    def add(name: str, parser: argparse.ArgumentParser) -> None:
        nested = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        for action in nested:
            for word, child in action.choices.items():
                add(f"{name} {word}".strip(), child)
        if not nested:
            found[name] = parser

    add("", make_parser())
    return found


PARSERS = parsers()


def test_every_command_has_a_parser() -> None:
    assert {name.split()[0] for name in PARSERS} == set(COMMANDS)


@pytest.mark.claim("S366")
@pytest.mark.parametrize("name", sorted(PARSERS.keys() - WITHOUT_JSON))
def test_every_command_that_prints_has_json(name: str) -> None:
    assert "--json" in PARSERS[name]._option_string_actions


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    try:
        status = main(list(words))
    except SystemExit as ended:
        status = int(ended.code or 0)
    done = capsys.readouterr()
    return status, done.out, done.err


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody without account, mount and terminal."""
    for name in [name for name in os.environ if name.startswith(("UP42_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.claim("S366")
@pytest.mark.parametrize("name", sorted(PARSERS))
def test_wrong_usage_is_2_and_one_line(
    name: str, nobody: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, *name.split(), "--no-such-option", "x")
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("up42fs: ")


FAILS = {
    "login": ["--username", "me@example.com"],
    "logout": [],
    "mount": ["no/such/place"],
    "unmount": ["."],
    "ls": ["assets"],
    "find": ["assets"],
    "info": ["assets/x"],
    "cat": ["assets/x"],
    "cp": ["assets/x", "."],
    "url": ["assets/x"],
    "serve": ["--listen", "127.0.0.1:0"],
    "status": ["."],
    "log": ["."],
    "explain": ["."],
    "thumbnail": ["none.tif", "none.png"],
    "warm": ["."],
    "cache pin": ["."],
    "cache unpin": ["."],
    "undo": ["."],
    "setup": ["--user", "--remove"],
}
#: These do their work for somebody who has nothing, too.
WORKS = {"accounts", "cache list", "cache usage", "cache clear", "cache verify"}
#: Those start servers, or look at the machine; tests of their own see to them.
ELSEWHERE = {"demo", "emulator", "doctor"}


@pytest.mark.claim("S366")
@pytest.mark.parametrize("name", sorted(PARSERS.keys() - ELSEWHERE))
def test_failure_is_1_and_one_line_and_success_0(
    name: str, nobody: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing asks a question: standard input is at its end, and the commands still end."""
    json_option = ["--json"] if name not in WITHOUT_JSON else []
    status, out, err = run(capsys, *name.split(), *json_option, *FAILS.get(name, []))
    if name in WORKS:
        assert (status, err) == (0, "")
        json.loads(out)
        return
    assert status == 1, err
    assert out == ""
    assert err.startswith("up42fs: ")
    assert err.count("\n") == 1


def test_a_list_of_nothing_is_empty(nobody: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["accounts", "--json"], ["cache", "list", "--json"]):
        status, out, _ = run(capsys, *words)
        assert (status, json.loads(out)) == (0, [])


# waiting -------------------------------------------------------------------------------------

LISTING = st.fixed_dictionaries(
    {
        "complete": st.booleans(),
        "seconds_since_refresh": st.none() | st.floats(0, 1e4),
        "error": st.none(),
    }
)


@given(st.fixed_dictionaries({"assets": LISTING, "orders": LISTING}), st.integers(0, 10_000))
def test_synced_is_listed_and_asked_since(catalogue: dict, mounted: int) -> None:
    status = {"catalogue": catalogue, "mounted_seconds": mounted}
    is_listed = all(listing["complete"] for listing in catalogue.values())
    assert waiting.is_reached(status, "listed") == is_listed
    if waiting.is_reached(status, "synced"):
        assert is_listed
        assert all(x["seconds_since_refresh"] <= mounted + 1 for x in catalogue.values())
    assert not waiting.is_reached({}, "listed")


def test_a_wait_ends(tmp_path: Path) -> None:
    half = {"complete": False, "error": "UP42 answers 503"}
    status = {"catalogue": {"assets": half}, "mounted_seconds": 1}
    with pytest.raises(Unavailable, match="is not synced after 0 s: UP42 answers 503; see"):
        waiting.wait(tmp_path, "synced", ask=lambda _: status, longest_s=0.0)
    answers = iter([None, status, {"catalogue": {"assets": {"complete": True}}}])
    waiting.wait(tmp_path, "listed", ask=lambda _: next(answers), longest_s=60.0)
