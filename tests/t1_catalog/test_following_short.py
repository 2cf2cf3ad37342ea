"""A process that has no thread or memory for a look at the election lists the storage by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from up42fs.catalog.following import Following
from up42fs.catalog.index import ListingKind
from up42fs.catalog.recorder import Recorder
from up42fs.catalog.sync import Sync


class ToldSync:
    """Whether this process asks UP42."""

    def __init__(self) -> None:
        self.is_asking = False
        self._asks = True

    def asks(self) -> bool:
        return self._asks

    def ask_from_now(self) -> None:
        self._asks = True

    def let_others_ask(self) -> None:
        self._asks = False


def following(place: Path, sync: ToldSync) -> Following:
    async def written() -> None:
        pass

    snapshot = SimpleNamespace(path=place / "catalogue" / "c.sqlite", follow=lambda _: None)
    recorder = SimpleNamespace(snapshot=snapshot, written=written)
    return Following(cast(Recorder, recorder), cast(Sync, sync), refresh_s=1, position=0)


@pytest.mark.parametrize(
    "error",
    [MemoryError, lambda: RuntimeError("can't start new thread"), lambda: OSError(24, "full")],
    ids=["memory", "threads", "descriptors"],
)
@pytest.mark.claim("S385")
async def test_a_look_that_finds_nothing_left_lets_no_reader_wait(
    error: Callable[[], Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: readers waited a minute for a first listing after four seconds without memory."""
    sync = ToldSync()
    part = following(tmp_path, sync)
    assert not sync.asks()

    async def none_left(*_: Any, **__: Any) -> None:
        await trio.lowlevel.checkpoint()
        raise error()

    with monkeypatch.context() as patch:
        patch.setattr(trio.to_thread, "run_sync", none_left)
        await part.look()
        assert sync.asks()
        await part.attempted(ListingKind.ASSETS, None)
    await part.look()
    assert part.leads
    assert sync.asks()
    part.close()


async def test_a_defect_in_a_look_is_no_shortage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = following(tmp_path, ToldSync())

    async def broken(*_: Any, **__: Any) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("a bug")

    monkeypatch.setattr(trio.to_thread, "run_sync", broken)
    with pytest.raises(KeyError):
        await part.look()
