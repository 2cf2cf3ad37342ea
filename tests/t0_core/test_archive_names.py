"""Paths of members: safe whatever the archive says, unique, and honest ones unchanged."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from pathlib import Path

import pytest
from archive_support import HOSTILE_NAMES
from hypothesis import given, settings
from hypothesis import strategies as st

from up42fs.archive import names
from up42fs.archive.names import Wish, safe_target, unique_paths, wish
from up42fs.archive.table import TooLargeError


def check(path: str) -> None:
    parts = path.split("/")
    assert not {"", ".", ".."} & set(parts)
    assert len(parts) <= names.MAX_DEPTH
    assert all(len(part.encode()) <= 255 for part in parts)
    assert not set(path) & set("\0\n\r\x1b\x7f\u202e\u2028\ufeff")


def paths_of(*raw: str | bytes) -> list[str | None]:
    decoded = [one if isinstance(one, str) else names.decoded(one) for one in raw]
    return unique_paths(list(map(wish, decoded)))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a/b.tif", "a/b.tif"),
        ("ä/Süd.tif", "ä/Süd.tif"),
        ("gru\u0308n", "gru\u0308n"),  # not composed: files inside refer to one another by name
        (" lead / trail ", " lead / trail "),
        ("/etc/passwd", "etc/passwd"),
        ("../up", "up"),
        ("a/../../up", "a/up"),
        ("./a//b", "a/b"),
        ("nul\0hidden", "nul"),
        ("\0", "_"),
        ("", "_"),
        ("..", "_"),
        ("/", None),
        ("./", None),
        ("line\nbreak", "line_break"),
        ("\u202egpj.exe", "_gpj.exe"),
        ("zero\u200bwidth", "zero_width"),
        ("C:/x", "C:/x"),
        ("-rf", "-rf"),
        ("...", "..."),
        ("dir/", None),
    ],
)
def test_a_name_becomes_a_safe_path(name: str, path: str | None) -> None:
    found = wish(name)
    if path is None:
        assert found.is_directory
    else:
        assert found.path == path
        assert not found.is_directory
        assert found.is_exact == (path == name.removeprefix("./"))


def test_bytes_are_utf8_or_cp437() -> None:
    assert names.decoded("grün".encode()) == "grün"
    assert names.decoded("grün".encode("cp437")) == "grün"
    assert names.decoded(bytes(range(256))).isprintable() is False


@pytest.mark.claim("S200")
@given(st.text(max_size=400) | st.binary(max_size=400))
@settings(max_examples=1000)
def test_any_name_becomes_a_safe_path(name: str | bytes) -> None:
    text = name if isinstance(name, str) else names.decoded(name)
    found = wish(text)
    assert found.path or found.is_directory
    if found.path:
        check(found.path)
        assert wish(found.path).path == found.path
        assert wish(found.path).is_exact


def test_long_and_deep_names_are_cut() -> None:
    [long, deep] = paths_of("x" * 300 + ".tif", "y/" * 300 + "z")
    assert long == "x" * 251 + ".tif"
    assert deep is not None
    check(deep)
    assert deep.startswith("y/" * 63)
    [wide] = paths_of("ü" * 200 + ".tif")
    assert wide is not None
    assert len(wide.encode()) <= 255
    assert wide.endswith("ü.tif")


@pytest.mark.parametrize(
    ("wanted", "paths"),
    [
        (["a", "a"], ["a [1]", "a"]),
        (["a.tif", "a.tif", "a.tif"], ["a [1].tif", "a [2].tif", "a.tif"]),
        (["d/a.tar.gz", "d/a.tar.gz"], ["d/a [1].tar.gz", "d/a.tar.gz"]),
        (["a", "a", "a [1]"], ["a [2]", "a", "a [1]"]),
        (["pet", "pet/cat"], ["pet [1]", "pet/cat"]),
        (["pet/cat", "pet", "pet"], ["pet/cat", "pet [1]", "pet [2]"]),
        (["pet/", "pet"], ["pet", "pet [1]"]),
        (["d/", "d/", "d/x"], [None, "d", "d/x"]),
        # A changed name yields to an honest one, wherever it stands.
        (["up", "../up"], ["up", "up [1]"]),
        (["../up", "up"], ["up [1]", "up"]),
        (["../up", "/up"], ["up [1]", "up"]),
        (["a\nb/x", "a_b/x"], ["a_b/x [1]", "a_b/x"]),
        (["Case", "case"], ["Case", "case"]),
    ],
)
def test_names_that_clash_are_all_kept(wanted: list[str], paths: list[str | None]) -> None:
    assert paths_of(*wanted) == paths


parts = st.sampled_from(["a", "b", "a [1]", "..", "", "x\n", "x_"])
wanted = st.lists(
    st.tuples(st.lists(parts, min_size=1, max_size=3).map("/".join), st.booleans()), max_size=14
)


@pytest.mark.claim("S200")
@given(wanted)
@settings(max_examples=1500)
def test_all_members_have_a_path_of_their_own(entries: list[tuple[str, bool]]) -> None:
    wishes = [wish(name, is_directory=is_directory) for name, is_directory in entries]
    paths = unique_paths(wishes)
    shown = [path for path in paths if path is not None]
    assert len(set(shown)) == len(shown)
    directories = {one.path for one in wishes if one.is_directory}
    for one in wishes:
        pieces = one.path.split("/")
        directories |= {"/".join(pieces[:end]) for end in range(1, len(pieces))}
    directories.discard("")
    for one, path in zip(wishes, paths, strict=True):
        if one.is_directory:
            assert path in (None, one.path)
        else:
            assert path is not None
            assert path not in directories
            assert path.rpartition("/")[0] == one.path.rpartition("/")[0]
    for path in {one.path for one in wishes} - {""}:
        assert path in directories or path in shown, "one of those that want a name has it"
    honest = [one for one in wishes if one.is_exact and one.path not in {"", *directories}]
    for one in honest:
        last = max(number for number, other in enumerate(wishes) if other == one)
        assert paths[last] == one.path, "the last honest one"


def test_hostile_names_stand_beside_one_another() -> None:
    paths = paths_of(*HOSTILE_NAMES)
    shown = [path for path in paths if path is not None]
    assert len(shown) == len(set(shown)) == len(HOSTILE_NAMES)
    for path in shown:
        check(path)


@pytest.mark.parametrize(
    "entries",
    [
        [Wish("x", False, True)] * 100_000,
        [Wish("x" * 252 + f"{number % 1000:03}", False, True) for number in range(100_000)],
        [Wish(f"x [{number}]", False, True) for number in range(50_000)]
        + [Wish("x", False, True)] * 50_000,
    ],
    ids=["one name", "names that are equal once cut", "names like those of duplicates"],
)
def test_many_clashes_take_linear_time(entries: list[Wish]) -> None:
    began = time.process_time()
    paths = unique_paths(entries)
    assert time.process_time() - began < 20, "quadratic time would take many minutes"
    assert len(set(paths)) == len(entries)
    assert all(path is not None and len(path.encode()) <= 255 for path in paths)


@pytest.mark.claim("S204")
def test_too_many_directories_are_refused() -> None:
    deep = "/".join(["d"] * 60)
    with pytest.raises(TooLargeError, match="200000"):
        unique_paths([Wish(f"{number}/{deep}/x", False, True) for number in range(4000)])


# Symlinks, against the kernel's own idea of them.

link_parts = st.sampled_from(["..", "..", "a", "b", "c", ".", "", "l1", "l2", "l3"])
targets = st.lists(link_parts, min_size=1, max_size=5).map("/".join)
places = st.sampled_from(["", "a", "a/b", "b"])


def is_loop(link: Path) -> bool:
    try:
        link.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


@pytest.mark.claim("S201")
@given(st.lists(st.tuples(places, targets), min_size=3, max_size=3))
@settings(max_examples=300, deadline=None)
def test_no_accepted_symlink_leads_out(wanted: list[tuple[str, str]]) -> None:
    directories = {"a", "a/b", "a/b/c", "b"}
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder) / "outer" / "top"
        for directory in directories:
            (top / directory).mkdir(parents=True, exist_ok=True)
        kept = []
        for number, (place, target) in enumerate(wanted, 1):
            path = f"{place}/l{number}".lstrip("/")
            accepted = safe_target(path, target, directories.__contains__)
            if accepted is not None:
                assert accepted == target
                (top / path).symlink_to(accepted)
                kept.append(top / path)
        for link in kept:
            if is_loop(link):
                continue
            real = os.path.realpath(link)
            assert real == str(top) or real.startswith(f"{top}/"), (wanted, link)


@pytest.mark.parametrize(
    ("path", "target", "is_safe"),
    [
        ("a/l", "file", True),
        ("a/l", "./b/../file", True),  # `a/b` is a directory
        ("a/l", "../x", True),
        ("a/l", "..", True),
        ("a/l", "../..", False),
        ("a/l", "../../etc/passwd", False),
        ("l", "..", False),
        ("l", "/etc/passwd", False),
        ("l", "", False),
        ("l", "a/b/../../..", False),
        ("l", "other/../x", False),  # `other` may be a symlink
        ("l", "x\0y", False),
        ("l", "x\ny", False),
        ("l", "x" * 256, False),
        ("l", "x/" * 2500, False),
        ("l", "a/" * 70 + "b", True),
    ],
)
def test_targets(path: str, target: str, is_safe: bool) -> None:
    found = safe_target(path, target, {"a", "a/b"}.__contains__)
    assert found == (target if is_safe else None)
