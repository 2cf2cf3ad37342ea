"""Applies edits of titles and tags: one asset at a time, on its newest state, and never twice.

Theory. An edit takes these steps: take the asset's lock, read the asset afresh, apply the
intention, write the difference, copy UP42's answer into the index, invalidate the kernel's cache,
write the journal. Rules:
1. A write is sent once and never repeated blindly. If its answer is lost (connection cut, 5xx, 429,
   409) it may have been carried out: the asset is read again after a pause, and if the intention
   holds there is nothing left to do. Otherwise it is applied to that newer state and written.
2. A refusal by UP42 (400, 401, 403, 404) is final. So is the deadline: the caller gets the error,
   and a refresh finds out whether the last write was carried out.
3. An answer that does not contain the edit is no success.
4. Once UP42 has answered, the remaining steps are not cancelled: the tree and the journal are
   correct before the call returns.
Between the read and the write lies one round trip in which another client's change is lost: UP42
has no conditional write. Mounts of one machine lock each other out (`locks`).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import trio
from cachetools import LRUCache

from up42fs.catalog.index import Delta, Index
from up42fs.catalog.metadata import AssetMetadata, Fresh
from up42fs.catalog.recent_edits import Edited
from up42fs.deadlines import note, request_s, within
from up42fs.errors import (
    AccessDenied,
    Conflict,
    DeadlineExceeded,
    InvalidAnswer,
    InvalidArgument,
    NotFound,
    SignInFailed,
    Unavailable,
    Up42fsError,
    VersionChanged,
)
from up42fs.fs.edits.changes import ChangedAsset, still_done
from up42fs.fs.edits.journal import Journal
from up42fs.fs.edits.locks import Interlock
from up42fs.fs.edits.queue import EditQueue
from up42fs.metrics import Metrics
from up42fs.model import intentions as edits
from up42fs.model.intentions import Edit, Metadata
from up42fs.net import retry
from up42fs.types import Asset

log = logging.getLogger(__name__)

#: How long one edit may take, and one command with all its assets, seconds. Shorter than a
#: handler may, which would cut it without a word.
EDIT_TIMEOUT_S = request_s(20.0)
ALL_TIMEOUT_S = request_s(25.0)
#: Writes answered 409 before it is believed.
MOST_CONFLICTS = 5
#: Assets of one command that are edited in parallel.
PARALLEL = 8
#: The longest that invalidation and the journal may take, seconds.
FINISH_TIMEOUT_S = 3.0
#: Failures kept, by asset.
MOST_FAILURES = 256


@dataclass(frozen=True, slots=True)
class Operation:
    """One command: its number in the journal, its description, and the operation it undoes."""

    number: int
    what: str
    undoes: int | None = None


@dataclass(slots=True)
class Edits:
    """The edits of one mount.

    `publish` updates the tree and the kernel from the index; `refresh` looks for changes.
    """

    index: Index
    source: AssetMetadata
    journal: Journal
    locks: Interlock
    edited: Edited
    publish: Callable[[Delta], Awaitable[None]]
    refresh: Callable[[], None]
    metrics: Metrics
    jitter: Callable[[], float] = random.random
    _queue: EditQueue = field(default_factory=EditQueue)
    _failures: LRUCache[str, str] = field(default_factory=lambda: LRUCache(MOST_FAILURES))

    async def change(self, asset_id: str, edit: Edit, what: str) -> None:
        """Edit one asset; raises an `Up42fsError`: then no change is known to have happened."""
        await self._change(asset_id, edit, Operation(self.journal.begin(), what))

    async def change_all(self, wanted: Mapping[str, Edit], what: str) -> None:
        """Edit several assets in one operation; see `_run`."""
        await self._run(wanted, Operation(self.journal.begin(), what))

    async def undo(self, number: int) -> None:
        """Undo what is left of an operation; see `_run`. Raises InvalidArgument."""
        for changes in still_done(self.journal.changes):
            if changes[0].operation == number:
                break
        else:
            raise InvalidArgument(
                f"operation {number} is not in .up42fs/changes, or was undone already"
            )
        wanted = {change.asset: edits.undo(change.before, change.after) for change in changes}
        what = f"undo {number}: {changes[0].what}"
        await self._run(wanted, Operation(self.journal.begin(), what, undoes=number))

    def close(self) -> None:
        """Give up the locks; no edit is possible afterwards."""
        self.locks.close()

    def last_failure(self, asset_id: str) -> str | None:
        """The error of the last edit of an asset, in UP42's words; None if it succeeded."""
        return self._failures.get(asset_id)

    def status(self) -> dict[str, object]:
        return {"made": len(self.journal.changes), "failed": dict(self._failures)}

    async def _run(self, wanted: Mapping[str, Edit], operation: Operation) -> None:
        """Edit every asset, whether others fail; raises the first error, with the number done."""
        done: list[str] = []
        errors: list[Up42fsError] = []
        limiter = trio.CapacityLimiter(PARALLEL)

        async def one(asset_id: str, edit: Edit) -> None:
            async with limiter:
                try:
                    await self._change(asset_id, edit, operation)
                except Up42fsError as error:
                    errors.append(error)
                else:
                    done.append(asset_id)

        with trio.move_on_after(ALL_TIMEOUT_S):
            async with trio.open_nursery() as nursery:
                for asset_id, edit in wanted.items():
                    nursery.start_soon(one, asset_id, edit)
        if len(done) == len(wanted):
            return
        self.refresh()
        first = errors[0] if errors else DeadlineExceeded("there was no time for the rest")
        raise type(first)(f"{operation.what}: {len(done)} of {len(wanted)} assets done: {first}")

    async def _change(self, asset_id: str, edit: Edit, operation: Operation) -> None:
        late = f"editing asset {asset_id} took longer than {EDIT_TIMEOUT_S:g} s"
        advice = "whether it was done shows at the next look: see its title and tags"
        try:
            with within(EDIT_TIMEOUT_S, late, advice=advice):
                async with self._queue.place(), self.locks.held(asset_id):
                    await self._carry_out(asset_id, edit, operation)
                self._failures.pop(asset_id, None)
        except Up42fsError as error:
            self.metrics.count("edits.failed")
            self._failures[asset_id] = str(error)
            self.refresh()
            raise

    async def _carry_out(self, asset_id: str, edit: Edit, operation: Operation) -> None:
        unsure: list[Fresh] = []
        try:
            await self._attempts(asset_id, edit, operation, unsure)
        except NotFound:
            if operation.undoes is None:
                raise
            gone = self.index.assets.get(asset_id)
            if gone is not None:  # the asset is gone: nothing is left to undo
                await self._record(gone, Metadata(None, ()), Edit(), operation)
        finally:
            if unsure:
                with trio.move_on_after(FINISH_TIMEOUT_S) as scope:
                    scope.shield = True
                    fresh = unsure[-1]
                    await self._record(fresh.asset, fresh.metadata, edit, operation, certain=False)

    async def _attempts(
        self, asset_id: str, edit: Edit, operation: Operation, unsure: list[Fresh]
    ) -> None:
        """Retry until done or refused; `unsure` holds the state before an unanswered write."""
        attempt = 0
        while True:
            fresh = await self.source.read(asset_id)
            if edit.is_refused_by(fresh.metadata):
                raise Conflict(
                    f"asset {asset_id} has another title by now, {fresh.metadata.title!r}, "
                    "which stays; nothing was changed"
                )
            wanted = edit.applied(fresh.metadata)
            before = unsure.pop().metadata if unsure else None
            if wanted == fresh.metadata:
                # A write whose answer was lost carried it out, or another client did.
                await self._finish(fresh, fresh, before, edit, operation)
                return
            unsure.append(fresh)
            try:
                answer = await self.source.write(fresh, wanted)
            except (Unavailable, VersionChanged) as error:
                attempt += 1
                await self._pause_or_raise(attempt, error)
                continue
            except (InvalidArgument, AccessDenied, NotFound, SignInFailed):
                unsure.clear()
                raise
            unsure.clear()
            await self._finish(fresh, answer, fresh.metadata, edit, operation)
            if edit.applied(answer.metadata) != answer.metadata:
                raise InvalidAnswer(
                    f"UP42 accepted an edit of asset {asset_id} without carrying it out: it shows "
                    f"the title {answer.metadata.title!r} and the tags {list(answer.metadata.tags)}"
                )
            return

    async def _pause_or_raise(self, attempt: int, error: Up42fsError) -> None:
        if isinstance(error, VersionChanged) and attempt >= MOST_CONFLICTS:
            raise Conflict(f"others keep changing the asset: {error}")
        wait_s = retry.backoff_s(attempt, self.jitter())
        if trio.current_time() + wait_s >= trio.current_effective_deadline():
            raise error
        note(error)
        self.metrics.count("edits.retries")
        log.info("%s; looking whether it was done", error)
        await trio.sleep(wait_s)

    async def _finish(
        self,
        fresh: Fresh,
        answer: Fresh,
        before: Metadata | None,
        edit: Edit,
        operation: Operation,
    ) -> None:
        with trio.move_on_after(FINISH_TIMEOUT_S) as scope:
            scope.shield = True
            await self._take_over(fresh, answer)
            if before is None and operation.undoes is None:
                return  # nothing was changed: nothing to undo
            self.metrics.count("edits.made")
            await self._record(answer.asset, before or answer.metadata, edit, operation)

    async def _record(
        self,
        asset: Asset,
        before: Metadata,
        edit: Edit,
        operation: Operation,
        *,
        certain: bool = True,
    ) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        change = ChangedAsset(
            operation=operation.number,
            when=now,
            what=operation.what,
            asset=asset.id,
            name=_label(asset),
            before=before,
            after=edit.applied(before),
            undoes=operation.undoes,
            certain=certain,
        )
        await self.journal.record(change)

    async def _take_over(self, fresh: Fresh, answer: Fresh) -> None:
        known = self.index.assets.get(answer.asset.id)
        if answer.timed and known is not None and known.updated_at > answer.asset.updated_at:
            self.refresh()  # a listing was faster, and its state is newer
            return
        after = answer.asset
        if not answer.timed and known is not None:
            after = replace(after, updated_at=max(after.updated_at, known.updated_at))
        delta = self.index.apply_edit(fresh.asset, after)
        self.edited.note(after, timed=answer.timed)
        if delta:
            await self.publish(delta)


def _label(asset: Asset) -> str:
    return asset.name or asset.title or asset.id
