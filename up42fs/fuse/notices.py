"""Notifications that make the kernel forget: attributes at once, names in a separate thread.

Theory. Forgetting attributes takes no lock. Forgetting a name takes the lock of its directory, and
the holder of that lock may be waiting for our answer: so the event loop never does it. Callers that
must know when it is done call `forget_names` from a thread. Data is never invalidated nor pushed:
both wait for pages that only a handler can release (`notify_store` in a handler deadlocks).
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Protocol

import pyfuse3

from up42fs import supervise
from up42fs.fuse import protocol

log = logging.getLogger(__name__)

#: The longest that unmounting waits for a name that is being forgotten, seconds.
_END_S = 1.0
_TICK_S = 0.01

Name = tuple[int, bytes]


class Notices(Protocol):
    """Notifications of one mount."""

    def forget_attributes(self, inode: int) -> None:
        """Invalidate an inode's attributes; never blocks."""

    def forget_name(self, parent: int, name: bytes) -> None:
        """Invalidate a name soon; never blocks."""

    def forget_names(self, names: Iterable[Name]) -> None:
        """Invalidate names, done on return; blocks."""

    def close(self) -> None:
        """Send no more notifications."""


class LibfuseNotices:
    """Sends through pyfuse3, which has a thread for names."""

    def forget_attributes(self, inode: int) -> None:
        try:
            pyfuse3.invalidate_inode(inode, attr_only=True)
        except OSError as error:
            log.debug("inode %d was not invalidated: %s", inode, error)

    def forget_name(self, parent: int, name: bytes) -> None:
        pyfuse3.invalidate_entry_async(parent, name, ignore_enoent=True)

    def forget_names(self, names: Iterable[Name]) -> None:
        for parent, name in names:
            with suppress(OSError):  # the kernel does not know the name
                pyfuse3.invalidate_entry(parent, name)

    def close(self) -> None:
        """See `Notices`: its thread ends with `main()`."""


class DeviceNotices:
    """Writes to the kernel's device."""

    def __init__(self, device_fd: int) -> None:
        self._device_fd = device_fd
        self._names: SimpleQueue[Name | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()  # over the two below
        self._is_closed = False
        self._writing = 0
        self._start()

    def forget_attributes(self, inode: int) -> None:
        self._send(protocol.forget_attributes(inode))

    def forget_name(self, parent: int, name: bytes) -> None:
        self._names.put((parent, name))
        if self._thread is None:
            self._start()

    def forget_names(self, names: Iterable[Name]) -> None:
        for parent, name in names:
            self._send(protocol.forget_name(parent, name))

    def close(self) -> None:
        """See `Notices`; call it before the device is closed.

        The descriptor's number may soon be another file's, so nothing is written to it afterwards.
        """
        with self._lock:
            self._is_closed = True
        with suppress(Empty):
            while True:
                self._names.get_nowait()
        self._names.put(None)
        if self._thread is not None:
            self._thread.join(_END_S)
        until_s = time.monotonic() + _END_S
        while self._writing and time.monotonic() < until_s:
            time.sleep(_TICK_S)

    def _start(self) -> None:
        """Start the thread for names; if that fails, they wait for the next attempt."""
        thread = threading.Thread(target=self._work, name="up42fs-forget", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:
            log.warning("names change late, there is no thread for them: %s", error)
        else:
            self._thread = thread

    def _work(self) -> None:
        while (name := self._names.get()) is not None:
            try:
                self._send(protocol.forget_name(*name))
            except Exception as error:
                supervise.report(self._work, error)

    def _send(self, message: bytes) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._writing += 1
        try:
            self._write(message)
        finally:
            with self._lock:
                self._writing -= 1

    def _write(self, message: bytes) -> None:
        try:
            os.write(self._device_fd, message)
        except OSError as error:
            # Ignored: the kernel does not know the entry, or the mount has ended.
            if error.errno not in (errno.ENOENT, errno.ENODEV, errno.ENOTDIR, errno.ENOTCONN):
                log.warning("the kernel was not told what to forget: %s", error)
