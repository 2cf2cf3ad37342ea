"""Odd rows are told once, in a line that harms no terminal, and not without end."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import ROWS

from up42fs.api import oddities, schema
from up42fs.api.oddities import MOST_TOLD, Oddities


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="up42fs")


def test_what_is_as_it_should_be_is_not_told(caplog) -> None:
    row = {
        "id": "a",
        "name": "scene.zip",
        "title": "Berlin / Mitte",
        "size": 0,
        "tags": [],
        "createdAt": "2024-02-01T00:00:00Z",
        "updatedAt": None,
    }
    assert Oddities().parse_asset(row) == schema.parse_asset(row)
    assert lines(caplog) == []


def test_each_object_is_told_once(caplog) -> None:
    odd = Oddities()
    for _ in range(3):
        odd.parse_asset({"id": "a", "size": -5})
        odd.parse_asset({"id": "b", "name": "x\x1b[31m/y"})
    assert lines(caplog) == [
        "asset 'a': its size cannot be used: -5",
        "asset 'b': no path can hold its name as it is: 'x\\x1b[31m/y'",
    ]


def test_a_storage_of_odd_rows_is_a_bounded_log(caplog) -> None:
    odd = Oddities()
    for number in range(10 * MOST_TOLD):
        odd.parse_asset({"id": str(number), "size": -number - 1})
    assert len(lines(caplog)) == MOST_TOLD
    assert "others of this kind are not told" in lines(caplog)[-1]


@given(ROWS, st.text(min_size=1))
def test_any_row_is_told_in_short_ascii(row, id_: str) -> None:
    row = {**row, "id": id_}
    asset = schema.parse_asset(row)
    if asset is not None:
        for _, sentence in oddities.of_asset(row, asset):
            assert sentence.isascii()
            assert sentence.isprintable()
            assert len(sentence) < 1000
