"""What changes is written behind, in few transactions, and what is left at the end."""

from __future__ import annotations

from pathlib import Path

import trio
from strategies import make_asset, make_order
from trio.testing import MockClock

from up42fs.catalog.index import Changes, Index
from up42fs.catalog.recorder import GATHER_S, Recorder
from up42fs.catalog.snapshot import Batch, Snapshot
from up42fs.catalog.sync import Part


class Counted(Snapshot):
    """Counts its transactions."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.batches: list[Batch] = []

    def save(self, batch: Batch) -> None:
        self.batches.append(batch)
        super().save(batch)


async def test_many_changes_are_few_transactions(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    index, snapshot, synced = Index(), Counted(tmp_path / "c.sqlite"), set[Part]()
    recorder = Recorder(snapshot, index, lambda part: part in synced)
    nursery.start_soon(recorder.run)
    for number in range(100):
        recorder.note(index.apply(Changes(assets=(make_asset(number),))))
        await trio.sleep(GATHER_S / 200)
    recorder.note(index.apply(Changes(orders=(make_order(1),))))
    synced.add(Part.ASSETS)
    # The write is in a real thread, which the mock clock does not wait for.
    while len(snapshot.batches) < 1 or not snapshot.batches[-1].complete:
        await trio.to_thread.run_sync(lambda: None)
        await trio.sleep(GATHER_S)
        recorder.note(index.apply(Changes()))
    assert len(snapshot.batches) <= 5
    removed = frozenset({make_asset(3).id})
    recorder.note(index.apply(Changes(removed_assets=removed)))
    nursery.cancel_scope.cancel()
    await recorder.flush()
    stored = Snapshot(tmp_path / "c.sqlite").load()
    assert {asset.id for asset in stored.assets} == set(index.assets)
    assert len(stored.assets) == 99
    assert stored.orders == (make_order(1),)
    assert (stored.assets_complete, stored.orders_complete) == (True, False)
