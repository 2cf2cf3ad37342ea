"""Who is told the attributes of files: whoever asked for one after a listing of names."""

from __future__ import annotations

from up42fs.fuse.callers import MOST_THREADS, Onlookers


def test_a_thread_that_asks_for_a_file_it_was_told_by_name() -> None:
    onlookers = Onlookers()
    assert not onlookers.wants_files(7)
    onlookers.listed_names(7, 100)
    assert not onlookers.wants_files(7), "listing alone is `ls`, or `find`"
    onlookers.asked_for_file(7, 100)
    assert onlookers.wants_files(7)
    assert not onlookers.wants_files(8)


def test_files_of_other_directories_tell_nothing() -> None:
    onlookers = Onlookers()
    onlookers.listed_names(7, 100)
    onlookers.asked_for_file(7, 101)
    onlookers.asked_for_file(8, 100)
    assert not onlookers.wants_files(7)
    assert not onlookers.wants_files(8)


def test_few_threads_are_remembered() -> None:
    onlookers = Onlookers()
    for thread_id in range(MOST_THREADS + 1):
        onlookers.listed_names(thread_id, 1)
        onlookers.asked_for_file(thread_id, 1)
    assert not onlookers.wants_files(0)
    assert onlookers.wants_files(MOST_THREADS)
