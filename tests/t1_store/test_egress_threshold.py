"""The warning about much traffic, and the early word about a budget. With the book on disk."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from up42fs.errors import QuotaExceeded
from up42fs.fs.files.ledger import Ledger
from up42fs.logs import FOR_DESKTOP
from up42fs.metrics import Metrics
from up42fs.store.egress.budget import EgressLimit
from up42fs.store.egress.egress import Egress
from up42fs.store.egress.spending import Book, Spending
from up42fs.store.egress.threshold import Threshold
from up42fs.types import ByteRange

DAY_S = 86400.0


class Mount:
    """One mount's threshold of 1000 bytes a day, at a moment that the test sets."""

    def __init__(self, book: Path, reader: str | None = "restic") -> None:
        self.now_s = 1e9
        self.metrics = Metrics()
        spending = Spending(EgressLimit(1000, DAY_S), Book(book), clock=lambda: self.now_s)
        self.threshold = Threshold(spending, self.metrics, lambda: reader)

    async def fetch(self, count: int) -> None:
        self.metrics.count("store.bytes_fetched", count)
        await self.threshold.look()


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert all(hasattr(record, next(iter(FOR_DESKTOP))) for record in caplog.records)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.claim("S340")
async def test_much_traffic_is_told_once_and_again_on_another_day(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mount = Mount(tmp_path / "book")
    await mount.fetch(999)
    assert told(caplog) == []
    await mount.fetch(1)
    await mount.fetch(5000)
    (text,) = told(caplog)
    assert "1,000 bytes were fetched from storage in 24 hours, most of them read by restic" in text
    assert "max_egress" in text
    mount.now_s += 2 * DAY_S
    await mount.fetch(10)
    await mount.fetch(1000)
    assert len(told(caplog)) == 2


@pytest.mark.claim("S340")
async def test_mounts_of_an_account_are_counted_together(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = Mount(tmp_path / "book"), Mount(tmp_path / "book", reader=None)
    await one.fetch(600)
    await two.fetch(600)
    (text,) = told(caplog)
    assert "1,200 bytes" in text
    assert "read by" not in text
    assert two.threshold.status() == {
        "bytes": 1200,
        "warn_bytes": 1000,
        "period_seconds": DAY_S,
        "mostly_by": None,
    }
    two.metrics.count("store.bytes_fetched", 7)
    assert two.threshold.status()["bytes"] == 1207, "not only after the next look"


async def test_an_idle_mount_leaves_the_book_alone(tmp_path: Path) -> None:
    mount = Mount(tmp_path / "book")
    await mount.threshold.look()
    (tmp_path / "book").unlink(missing_ok=True)
    await mount.threshold.look()
    assert not (tmp_path / "book").exists()


@pytest.mark.claim("S341")
async def test_a_budget_is_told_of_at_four_fifths_and_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now_s = [1e9]
    spending = Spending(EgressLimit(1000, 3600.0), None, clock=lambda: now_s[0])
    egress = Egress(spending, Metrics())
    await egress.pay(799)
    assert told(caplog) == []
    await egress.pay(1)
    await egress.pay(100)
    (early,) = told(caplog)
    assert early.startswith("80 % of the budget max_egress, 1,000 bytes")
    await egress.pay(100)
    with pytest.raises(QuotaExceeded):
        await egress.pay(1)
    assert "is used up" in told(caplog)[-1]
    assert len(told(caplog)) == 2
    now_s[0] += 2 * 3600
    await egress.share()
    await egress.pay(900)
    assert len(told(caplog)) == 3
    assert caplog.records[-1].levelno == logging.WARNING


def test_the_program_of_the_most_read_files_is_named() -> None:
    ledger = Ledger()
    assert ledger.top_program() is None
    ledger.open("a", name="a", size=100, program="qgis")
    assert ledger.top_program() is None
    ledger.open("a", name="a", size=100, program="qgis").note_read(ByteRange(0, 60), 0.0, 0.0)
    ledger.open("b", name="b", size=100, program="restic").note_read(ByteRange(0, 50), 0.0, 0.0)
    ledger.open("c", name="c", size=100, program="restic").note_read(ByteRange(0, 50), 0.0, 0.0)
    assert ledger.top_program() == "restic"
