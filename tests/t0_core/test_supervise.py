"""Background work: a failure stays with the work that failed, and is told to who waits for it."""

from __future__ import annotations

import ast
import errno
import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

import up42fs
from up42fs import supervise
from up42fs.errors import NoMemory, NotFound, Unavailable
from up42fs.supervise import FIRST_PAUSE_S, LONGEST_PAUSE_S, contained, failure, next_pause_s

PACKAGE = Path(up42fs.__file__).parent

errors = st.sampled_from(
    [
        *(RuntimeError("can't start new thread"), MemoryError(), OSError(errno.EMFILE, "full")),
        *(ValueError("bug"), OSError(errno.ENOMEM, "none left"), NotFound("x: not there")),
        *(Unavailable("x: broken"), KeyError("bug"), AssertionError(), UnicodeError("bug")),
    ]
)
groups = st.recursive(
    errors, lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda e: group(e))
)


def group(found: list[Exception]) -> BaseException:
    return ExceptionGroup("several", found)


@given(st.just(0.0) | st.floats(FIRST_PAUSE_S, LONGEST_PAUSE_S), st.floats(0, 1e6))
def test_pauses_grow_to_a_bound_and_begin_anew(pause_s: float, ran_s: float) -> None:
    following_s = next_pause_s(pause_s, ran_s)
    assert FIRST_PAUSE_S <= following_s <= LONGEST_PAUSE_S
    if ran_s > LONGEST_PAUSE_S or pause_s == 0:
        assert following_s == FIRST_PAUSE_S
    else:
        assert following_s == min(2 * pause_s, LONGEST_PAUSE_S)


@given(groups)
def test_who_waits_is_told_what_was_meant_or_else_eio_or_enomem(error: BaseException) -> None:
    told = failure(error, "signing a link")
    leaves = list(supervise.leaves(error))
    ours = [leaf for leaf in leaves if isinstance(leaf, NotFound | Unavailable)]
    if ours:
        assert told is ours[0]
    else:
        is_memory = isinstance(leaves[0], MemoryError) or getattr(leaves[0], "errno", 0) == 12
        assert type(told) is (NoMemory if is_memory else Unavailable)
        assert str(told).startswith("signing a link failed: ")


@given(groups)
@pytest.mark.claim("S130")
def test_no_failure_leaves_contained_work(error: BaseException) -> None:
    async def main() -> str:
        async def work() -> None:
            raise error

        async with trio.open_nursery() as nursery:
            supervise.start(nursery, work)
        return "alive"

    assert trio.run(main) == "alive"


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a failure"])
async def test_cancellation_passes(
    beside: bool, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails_late() -> None:
        try:
            await trio.sleep_forever()
        finally:
            if beside:
                raise ValueError("amid the end")

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails_late)
            await trio.sleep_forever()

    with trio.move_on_after(1) as scope:
        await contained(work)
    assert scope.cancelled_caught
    assert len(caplog.records) == beside


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_the_end_of_the_process_passes(kind: type[BaseException]) -> None:
    async def work() -> None:
        raise kind

    with pytest.raises(kind):
        await contained(work)


@pytest.mark.claim("S131")
async def test_work_begins_again_after_pauses_that_grow(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    begun: list[float] = []

    async def work() -> None:
        begun.append(trio.current_time())
        if len(begun) < 12:
            raise RuntimeError("can't start new thread")

    await supervise.kept_going(work)
    pauses = [b - a for a, b in itertools.pairwise(begun)]
    assert pauses[:4] == pytest.approx([0.5, 1, 2, 4])
    assert max(pauses) == pytest.approx(LONGEST_PAUSE_S)
    assert len(caplog.records) == 11
    assert all(record.exc_info for record in caplog.records)
    assert "work failed unexpectedly: RuntimeError" in caplog.text


async def test_a_report_that_cannot_be_written_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_args: object, **_more: object) -> None:
        raise MemoryError

    monkeypatch.setattr(supervise.log, "error", no_memory)

    async def work() -> None:
        raise MemoryError

    await contained(work)


#: Places that may start a task by themselves although its nursery is not of the same function.
ALLOWED = {
    ("fuse/server.py", "waits"),  # `_lead` lets nothing out
    ("store/http/race.py", "_overtake"),  # its caller's nursery, which is one read's
    ("supervise.py", "start"),
    ("supervise.py", "start_for_good"),
}


@pytest.mark.claim("S131")
def test_every_task_stands_under_the_supervisor() -> None:
    """But for those whose failure is that of the call that opened their nursery."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        name = str(path.relative_to(PACKAGE))
        if name.startswith("emulator/"):
            continue
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.AsyncFunctionDef | ast.FunctionDef):
                calls = [c.func for c in own_calls(function) if isinstance(c.func, ast.Attribute)]
                names = {call.attr for call in calls}
                if "start_soon" in names and "open_nursery" not in names:
                    found.add((name, function.name))
    assert found == ALLOWED


def own_calls(function: ast.AST) -> list[ast.Call]:
    """Calls in a function, those of functions inside it left out."""
    calls: list[ast.Call] = []
    rest = list(ast.iter_child_nodes(function))
    while rest:
        node = rest.pop()
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef):
            continue
        if isinstance(node, ast.Call):
            calls.append(node)
        rest += ast.iter_child_nodes(node)
    return calls


_SMALL_OBJECTS_WITHOUT_MEMORY = """
import resource, sys
from pathlib import Path
from up42fs import supervise

if sys.argv[1] == "spare":
    supervise.SPARE.fill()
used, at = [None] * 2_000_000, 0
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(),) * 2)

def take():
    global at
    begun = at
    try:
        while True:
            used[at] = bytes(100)
            at += 1
    except MemoryError as error:
        return at - begun, error

_, error = take()
assert supervise.is_short_of_anything(error) and not len(supervise.SPARE)
found, error = take()
used.clear()
print(found)
"""


@pytest.mark.claim("S351")
@pytest.mark.parametrize(("kept", "least", "most"), [("spare", 2000, 20000), ("none", 0, 500)])
def test_what_is_kept_is_there_for_small_objects(kept: str, least: int, most: int) -> None:
    """In a process of its own, with no address space left."""
    done = subprocess.run(
        [sys.executable, "-c", _SMALL_OBJECTS_WITHOUT_MEMORY, kept],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert least <= int(done.stdout) <= most


@pytest.mark.claim("S351")
def test_spare_memory_is_kept_again() -> None:
    spare = supervise.Spare()
    spare.fill()
    before = len(spare)
    spare.release()
    assert len(spare) == 0
    spare.fill()
    assert len(spare) == before > 0
