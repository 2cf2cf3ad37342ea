"""The orders in which tools read: agreement with the tools themselves, and soundness."""

from __future__ import annotations

import locale
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from up42fs.core.reading_order import Course, Folder, Order, locale_key, natural_key

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
    for order in Order:
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
    assert Course(Order.LISTED, 1, ".tif") in where.courses("1", "3")
    assert Course(Order.LISTED) not in where.courses("1", "3")
    assert where.distance(Course(Order.NAME, 1, ".tif"), "1", "2") is None
    assert where.suffix("5") == ""


def test_python_and_ls_agree_with_our_orders(tmp_path: Path) -> None:
    listed = ["b_10.tif", "b_9.tif", "B_1.tif", "a-2.tif", "a.tif", "C.tif", "b_09.tif"]
    for name in listed:
        (tmp_path / name).touch()
    where = Folder("f", {n: n for n in listed}, lambda n: (tmp_path / n).stat().st_ino)

    def walk(order: Order) -> list[str]:
        first = where.beginning(Course(order))
        assert first is not None
        return [first, *where.after(Course(order), first)]

    env = os.environ | {"LC_ALL": "C"}
    ls = subprocess.run(["ls", tmp_path], capture_output=True, text=True, env=env, check=True)
    assert walk(Order.NAME) == ls.stdout.split()
    assert walk(Order.INODE) == sorted(listed, key=lambda name: (tmp_path / name).stat().st_ino)
    natural = walk(Order.NATURAL)
    assert natural.index("b_9.tif") < natural.index("b_10.tif")


def test_people_sort_without_regard_to_case_and_accents() -> None:
    mixed = ["Zebra", "apple", "Émile", "emil", "Apple", "zoo", "a_1", "a1", "a-1"]
    assert sorted(mixed, key=locale_key) == [
        "a_1", "a-1", "a1", "apple", "Apple", "emil", "Émile", "Zebra", "zoo",
    ]  # fmt: skip
    assert sorted(["s10", "s9", "s100"], key=natural_key) == ["s9", "s10", "s100"]


def test_glibc_agrees_where_it_has_a_locale() -> None:
    for name in ("en_US.UTF-8", "de_DE.UTF-8", "en_GB.UTF-8"):
        try:
            locale.setlocale(locale.LC_COLLATE, name)
        except locale.Error:
            continue
        try:
            usual = ["tile_2.tif", "Tile_10.tif", "tile_1.tif", "a-b.tif", "ab.tif", "Zb.xml"]
            assert sorted(usual, key=locale_key) == sorted(usual, key=locale.strxfrm)
        finally:
            locale.setlocale(locale.LC_COLLATE, "C")
        return
    pytest.skip("no locale but C is installed")


def test_large_directories_are_followed_without_keys() -> None:
    where = Folder("f", {str(n): f"s{n:05}.bin" for n in range(5000)})
    orders = {course.order for course in where.courses("7", "8")}
    assert orders >= {Order.LISTED, Order.NAME}
    assert not orders & {Order.LOCALE, Order.NATURAL}
