"""Which questions for sizes bring the file's head: none of a storm, each that a reader asks."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.readahead.heads import (
    FRESH_S,
    GRACE_S,
    MOST_AT_ONCE,
    MOST_FOLLOWING,
    PATIENCE,
    PAUSE_S,
    READERS,
    SIZERS,
    Asker,
    SizeQuestions,
)

#: A program that is neither known for sizes nor for images.
PLAIN = Asker("python3", 7)
GDAL = Asker("gdalinfo", 7)


def ask(
    questions: SizeQuestions, file: str, now_s: float, asker: Asker = PLAIN, *, known: bool = True
) -> bool:
    """Ask for a size that comes at once; whether its head came, too."""
    head = questions.asked(asker, now_s)
    questions.answered(asker, file, head=head, is_known=known, now_s=now_s)
    return head


@pytest.mark.parametrize("program", sorted(SIZERS))
def test_programs_that_want_sizes_get_no_head(program: str) -> None:
    questions, asker = SizeQuestions(), Asker(program, 1)
    assert len(program.encode()) <= 15, "the kernel stores no more"
    assert not program.startswith(READERS)
    assert not any(ask(questions, f"{n}", n * 10.0, asker) for n in range(20))


def test_a_caller_that_knows_is_believed() -> None:
    questions = SizeQuestions()
    assert all(ask(questions, f"w{n}", n * 0.01, Asker("up42fs", 1)) for n in range(20))
    for n in range(20):
        assert ask(questions, f"{n}", n * 0.01, Asker("du", 1, will_read=True))
        assert not ask(questions, f"x{n}", n * 0.01, Asker("gdalinfo", 1, will_read=False))


@given(count=st.integers(1, 60), pause_s=st.floats(0, PAUSE_S))
def test_of_a_storm_only_the_first_has_its_head(count: int, pause_s: float) -> None:
    questions = SizeQuestions()
    heads = [ask(questions, f"{n}", n * pause_s) for n in range(count)]
    assert heads == [True] + [False] * (count - 1)


@given(count=st.integers(1, 60))
def test_a_program_that_reads_images_is_believed_a_little_longer(count: int) -> None:
    questions = SizeQuestions()
    heads = [ask(questions, f"{n}", n * 0.1, GDAL) for n in range(count)]
    assert heads == [n < PATIENCE for n in range(count)]


@given(files=st.lists(st.text(max_size=3), max_size=60), pause_s=st.floats(0, 5), asker=...)
def test_files_that_are_opened_after_their_sizes_have_heads(
    files: list[str], pause_s: float, asker: bool
) -> None:
    """As `gdalinfo` in a loop, and as a shell that tests files which another program opens."""
    questions, now_s = SizeQuestions(), 0.0
    for file in files:
        assert ask(questions, file, now_s, GDAL if asker else PLAIN)
        questions.opened(file, "item")
        now_s += pause_s


def test_an_open_ends_a_storm_and_so_does_a_pause() -> None:
    questions = SizeQuestions()
    assert [ask(questions, name, 0.0) for name in "abc"] == [True, False, False]
    questions.opened("b", "item")
    assert ask(questions, "d", 0.1)
    assert not ask(questions, "e", 0.2)
    assert not ask(questions, "f", 0.2 + PAUSE_S)
    assert ask(questions, "g", 0.3 + 2 * PAUSE_S)


def test_an_open_of_something_else_ends_no_storm() -> None:
    """`du` in one window, a reader in another."""
    questions = SizeQuestions()
    assert ask(questions, "a", 0.0)
    for n in range(20):
        questions.opened(f"other{n}", "item")
        assert not ask(questions, f"{n}", 0.01 * n)


@given(threads=st.integers(2, MOST_AT_ONCE))
def test_threads_that_read_in_parallel_all_get_heads(threads: int) -> None:
    """Each asks and then opens; the others ask in between."""
    questions, now_s = SizeQuestions(), 0.0
    for turn in range(5):
        askers = [Asker("python3", thread) for thread in range(threads)]
        files = [f"{turn}/{thread}" for thread in range(threads)]
        heads = [questions.asked(asker, now_s) for asker in askers]
        assert all(heads)
        for asker, file in zip(askers, files, strict=True):
            questions.answered(asker, file, head=True, is_known=True, now_s=now_s)
        for file in files:
            questions.opened(file, None)
        now_s += 1.0


def test_heads_under_way_are_bounded() -> None:
    questions = SizeQuestions()
    heads = [questions.asked(Asker("walker", thread), 0.0) for thread in range(50)]
    assert sum(heads) == MOST_AT_ONCE
    for thread, head in enumerate(heads):
        asker = Asker("walker", thread)
        questions.answered(asker, f"{thread}", head=head, is_known=True, now_s=0.1)
    assert not questions.asked(Asker("walker", 0), 0.2)
    assert not questions.asked(Asker("walker", 99), 0.2 + GRACE_S)


def test_failures_are_no_storm() -> None:
    questions = SizeQuestions()
    assert all(ask(questions, f"{n}", n * 0.1, known=False) for n in range(50))


def test_heads_follow_the_second_open_of_a_company_once() -> None:
    questions = SizeQuestions()
    names = [f"{n}" for n in range(10)]
    for name in names:
        assert not ask(questions, name, 0.0, Asker("ls", 1))
    assert not questions.opened("4", "item")
    assert not questions.opened("4", "item"), "it is no second file"
    assert questions.opened("2", "item")
    rest = [name for name in names if name not in "42"]
    assert questions.following(names, 1.0) == rest
    assert questions.following(names, 1.0) == []


def test_files_whose_heads_came_are_not_followed() -> None:
    questions = SizeQuestions()
    for name in "abcdef":
        ask(questions, name, 0.0, Asker("cp", 1, will_read=True))
        assert not questions.opened(name, "item")
    assert questions.following("abcdef", 0.0) == []


def test_old_sizes_are_not_followed_for_their_links_are_over() -> None:
    questions = SizeQuestions()
    for name in "abc":
        ask(questions, name, 0.0, Asker("ls", 1))
    ask(questions, "d", 100.0, Asker("ls", 1))
    assert questions.following("abcd", FRESH_S + 1) == ["d"]


def test_heads_that_follow_are_bounded() -> None:
    questions = SizeQuestions()
    names = [f"{n}" for n in range(MOST_FOLLOWING + 20)]
    for name in names:
        ask(questions, name, 0.0, Asker("ls", 1))
    assert questions.following(names, 0.0) == names[:MOST_FOLLOWING]


_EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "open", "follow"]),
        st.sampled_from(["ls", "python3", "bash", "qgis.bin"]),
        st.integers(0, 3),
        st.integers(0, 12),
        st.floats(0, 3),
    ),
    max_size=80,
)


@given(events=_EVENTS)
def test_any_events_keep_the_bounds(events: list[tuple[str, str, int, int, float]]) -> None:
    """Heads without an open after them are few for each program, whatever comes between."""
    questions, now_s = SizeQuestions(), 0.0
    unopened: Counter[str] = Counter()
    last_s: dict[str, float] = {}
    got: dict[str, str] = {}
    for what, program, thread, number, pause_s in events:
        file, now_s = f"{number}", now_s + pause_s
        if what == "ask":
            if now_s - last_s.get(program, 0.0) > PAUSE_S:
                unopened.pop(program, None)
            last_s[program] = now_s
            if ask(questions, file, now_s, Asker(program, thread)):
                assert program != "ls"
                unopened[program] += 1
            got[file] = program
        elif what == "open":
            questions.opened(file, "item")
            unopened.pop(got.pop(file, ""), None)
        else:
            following = questions.following([f"{n}" for n in range(13)], now_s)
            assert len(following) == len(set(following)) <= 13
        # What the program may pass, and one for each thread that had no time to open.
        assert all(count <= PATIENCE + 4 for count in unopened.values())
