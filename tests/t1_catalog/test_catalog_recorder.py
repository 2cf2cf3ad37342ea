"""What changes is written behind, in few transactions, and what is left at the end."""

from __future__ import annotations

from pathlib import Path

import trio
from strategies import make_asset, make_order

from up42fs.catalog.index import Changes, Index
from up42fs.catalog.recorder import Recorder
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


async def test_many_changes_are_few_transactions(tmp_path: Path, nursery: trio.Nursery) -> None:
    index, snapshot, synced = Index(), Counted(tmp_path / "c.sqlite"), set[Part]()
    recorder = Recorder(snapshot, index, lambda part: part in synced, gather_s=0.01)
    for number in range(100):
        recorder.note(index.apply(Changes(assets=(make_asset(number),))))
    recorder.note(index.apply(Changes(orders=(make_order(1),))))
    synced.add(Part.ASSETS)
    nursery.start_soon(recorder.run)
    while not snapshot.batches:
        await trio.sleep(0.01)
    removed = frozenset({make_asset(3).id})
    recorder.note(index.apply(Changes(removed_assets=removed)))
    nursery.cancel_scope.cancel()
    await recorder.flush()
    assert len(snapshot.batches) <= 3
    stored = Snapshot(tmp_path / "c.sqlite").load()
    assert stored.assets == index.assets
    assert len(stored.assets) == 99
    assert stored.orders == (make_order(1),)
    assert (stored.assets_complete, stored.orders_complete) == (True, False)
