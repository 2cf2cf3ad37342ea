"""Fixtures of the catalogue's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from up42fs.catalog.snapshot.snapshot import Snapshot


@pytest.fixture(autouse=True)
def closed_snapshots(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close what a test opened: from 3.13 on, Python warns of a connection that nobody closed."""
    opened: list[Snapshot] = []
    make = Snapshot.__init__

    def noted(self: Snapshot, path: Path) -> None:
        opened.append(self)
        make(self, path)

    monkeypatch.setattr(Snapshot, "__init__", noted)
    yield
    for snapshot in opened:
        snapshot.close()
