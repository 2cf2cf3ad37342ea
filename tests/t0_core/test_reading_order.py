"""The orders in which tools read: agreement with the tools themselves, and soundness."""

from __future__ import annotations

import itertools
import locale
import os
import platform
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from up42fs.readahead.folder.order import Course, Folder, SortOrder, locale_key, natural_key

names = st.lists(
    st.text("abAB019_-. ()é", min_size=1, max_size=8).map(lambda text: "x" + text),
    unique=True,
    min_size=1,
    max_size=12,
)


@given(names, st.data())
@settings(max_examples=150)
def test_courses_are_walks_over_all_files(listed: list[str], data: st.DataObject) -> None:
    where = Folder("f", {f"id-{name}": name for name in listed})
    ids = {f"id-{name}" for name in listed}
    for order in SortOrder:
        for step in (1, -1):
            course = Course(order, step)
            first = where.beginning(course)
            assert first is not None
            walk = [first, *where.after(course, first)]
            assert set(walk) == ids
            assert len(walk) == len(ids)
            for place, file in enumerate(walk):
                assert where.distance(course, first, file) == place
    one, other = data.draw(st.sampled_from(sorted(ids))), data.draw(st.sampled_from(sorted(ids)))
    for course in where.courses(one, other):
        assert next(where.after(course, one)) == other
        assert course.suffix in (None, where.suffix(other))


def test_a_course_of_one_suffix_leaves_the_others_out() -> None:
    where = Folder("f", {"1": "a.tif", "2": "a.xml", "3": "b.TIF", "4": "b.xml", "5": "c"})
    assert Course(SortOrder.LISTED, 1, ".tif") in where.courses("1", "3")
    assert Course(SortOrder.LISTED) not in where.courses("1", "3")
    assert where.distance(Course(SortOrder.NAME, 1, ".tif"), "1", "2") is None
    assert where.suffix("5") == ""


def test_python_and_ls_agree_with_our_orders(tmp_path: Path) -> None:
    listed = ["b_10.tif", "b_9.tif", "B_1.tif", "a-2.tif", "a.tif", "C.tif", "b_09.tif"]
    for name in listed:
        (tmp_path / name).touch()
    where = Folder("f", {n: n for n in listed}, lambda n: (tmp_path / n).stat().st_ino)

    def walk(order: SortOrder) -> list[str]:
        first = where.beginning(Course(order))
        assert first is not None
        return [first, *where.after(Course(order), first)]

    env = os.environ | {"LC_ALL": "C"}
    ls = subprocess.run(["ls", tmp_path], capture_output=True, text=True, env=env, check=True)
    assert walk(SortOrder.NAME) == ls.stdout.split()
    assert walk(SortOrder.INODE) == sorted(listed, key=lambda name: (tmp_path / name).stat().st_ino)
    natural = walk(SortOrder.NATURAL)
    assert natural.index("b_9.tif") < natural.index("b_10.tif")


def test_people_sort_without_regard_to_case_and_accents() -> None:
    mixed = ["Zebra", "apple", "Émile", "emil", "Apple", "zoo", "a_1", "a1", "a-1"]
    assert sorted(mixed, key=locale_key) == [
        "a-1", "a_1", "a1", "apple", "Apple", "emil", "Émile", "Zebra", "zoo",
    ]  # fmt: skip
    assert sorted(["s10", "s9", "s100"], key=natural_key) == ["s9", "s10", "s100"]


#: What names are made of: much punctuation, few letters, so that the lower levels decide often.
_LETTERS = st.sampled_from("abzABZ01_-. ()éäÄßøñ")
_ANY = st.sampled_from(
    " !\"#%&'()*+,-.:;<=>?@[\\]^_`{|}~$0123456789abcdezABCDEZáàâåäãæçðéèñöøßüÿþÄÆÇÉÖØÜÞłŁœŒđğşž"
)
_PAIRS = st.one_of(
    st.tuples(st.text(_LETTERS, min_size=1, max_size=6), st.text(_LETTERS, min_size=1, max_size=6)),
    st.tuples(st.text(_ANY, min_size=1, max_size=6), st.text(_ANY, min_size=1, max_size=6)),
    # The same characters in another order.
    st.lists(_LETTERS, min_size=2, max_size=6).flatmap(
        lambda chars: st.tuples(st.just(chars), st.permutations(chars)).map(
            lambda both: ("".join(both[0]), "".join(both[1]))
        )
    ),
)
#: contrib/test makes them. C.UTF-8 sorts by code points, as `SortOrder.NAME` does.
LOCALES = ("en_US.UTF-8", "de_DE.UTF-8", "fr_FR.UTF-8")
needs_glibc = pytest.mark.skipif(not platform.libc_ver()[0], reason="another C library")


@pytest.fixture(params=LOCALES)
def collation(request: pytest.FixtureRequest) -> Iterator[str]:
    locale.setlocale(locale.LC_COLLATE, request.param)  # missing: run contrib/test
    yield request.param
    locale.setlocale(locale.LC_COLLATE, "C")


@needs_glibc
def test_glibc_agrees(collation: str) -> None:
    usual = ["tile_2.tif", "Tile_10.tif", "tile_1.tif", "a-b.tif", "ab.tif", "Zb.xml", "B8A.tif"]
    assert sorted(usual, key=locale_key) == sorted(usual, key=locale.strxfrm)

    @given(_PAIRS)
    @settings(max_examples=1500)
    def agrees(pair: tuple[str, str]) -> None:
        one, other = pair
        by_glibc = locale.strxfrm(one) < locale.strxfrm(other)
        assert (locale_key(one) < locale_key(other)) == by_glibc, collation

    agrees()


@needs_glibc
@pytest.mark.parametrize(("speech", "order"), [*((each, SortOrder.LOCALE) for each in LOCALES),
    ("C.UTF-8", SortOrder.NAME), ("C", SortOrder.NAME)])  # fmt: skip
def test_shells_expand_in_one_of_our_orders(speech: str, order: SortOrder, tmp_path: Path) -> None:
    listed = {
        *(f"{band}.{end}" for band in ("B01", "B8A", "B10", "b02", "TCI", "scl") for end in ENDS),
        *(f"DIM_PHR1{one}_{two}_2024061{n}10{n:02}_ORT_{n}.TIF"
          for one in "AB" for two in ("PMS-N", "P", "MS-FS") for n in range(12)),
        *(f"T33UUU_2024-06-{n:02}T10 {n}.tiff" for n in range(1, 31)),
        *("Köln Süd.tif", "Köln-Nord.tif", "koeln.tif", "kolb.tif", "Kölsch.tif", "Öl.tif"),
        *("metadata.xml", "Metadata.XML.bak", "preview (2).jpg", "preview.jpg", "préview.jpg"),
    }  # fmt: skip
    assert ours(listed, order) == expanded(listed, speech, tmp_path)


@needs_glibc
@pytest.mark.parametrize("speech", LOCALES)
def test_shells_expand_wild_names_nearly_so(speech: str, tmp_path: Path) -> None:
    """glibc's strcoll, which shells use, differs from its strxfrm where names hardly differ."""
    rng = random.Random(7)
    wild = {
        "x" + "".join(rng.choices("abAB019_-. éä", k=rng.randint(1, 9))) + "x" for _ in range(400)
    }
    where, there = ours(wild, SortOrder.LOCALE), expanded(wild, speech, tmp_path)
    pairs = set(itertools.pairwise(where)) & set(itertools.pairwise(there))
    assert len(pairs) > 0.9 * len(wild)


ENDS = ("tif", "TIF", "xml", "tif.aux.xml")


def ours(listed: set[str], order: SortOrder) -> list[str]:
    where = Folder("f", {name: name for name in sorted(listed, key=lambda name: name[::-1])})
    first = where.beginning(Course(order))
    assert first is not None
    return [first, *where.after(Course(order), first)]


def expanded(listed: set[str], speech: str, directory: Path) -> list[str]:
    """What a shell makes of `*` there."""
    for name in listed:
        (directory / name).touch()
    env = {"PATH": os.environ["PATH"], "LC_ALL": speech}
    command = ["bash", "-c", r"printf '%s\0' *"]
    done = subprocess.run(command, cwd=directory, env=env, capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


def test_large_directories_are_followed_without_keys() -> None:
    where = Folder("f", {str(n): f"s{n:05}.bin" for n in range(5000)})
    orders = {course.order for course in where.courses("7", "8")}
    assert orders >= {SortOrder.LISTED, SortOrder.NAME}
    assert not orders & {SortOrder.LOCALE, SortOrder.NATURAL}
