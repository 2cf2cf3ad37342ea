"""The kernel's device: requests come from it and answers go to it, a system call each.

Knows the descriptor and what its errors mean; nothing of handlers or tasks.

Rules. The device is read without blocking: the kernel may take a request back between the poll and
the read. An answer that comes too late is dropped. A client that walks sends its next request some
microseconds after an answer, so `next` lingers for it in the kernel: to go back to the event loop
costs more than the request.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import sys

import trio

from up42fs import supervise
from up42fs.fuse import protocol
from up42fs.fuse.handshake import MAX_WRITE_BYTES
from up42fs.fuse.protocol import RequestHead

log = logging.getLogger(__name__)

#: How long `next` waits for the next request of the same client, seconds.
LINGER_S = 0.000_05
#: The kernel requires room for the largest WRITE and its head for every read.
_MESSAGE_BYTES = MAX_WRITE_BYTES + 4096
#: More is never made of it: some 16 times the largest request that was ever agreed on.
_MOST_MESSAGE_BYTES = 32 << 20
#: `select` does not accept larger descriptors.
_MOST_SELECTABLE = 1024


class Device:
    """The device of one mount; the caller closes its descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._message = bytearray(_MESSAGE_BYTES)
        #: The latest request; its bytes stay here until a handler waits.
        self.view = memoryview(self._message)
        self._lingers = fd < _MOST_SELECTABLE
        #: Whether no more requests are read.
        self.is_ended = False
        #: Set when the device reports that the mount is gone.
        self.is_gone = trio.Event()

    def begin(self) -> None:
        """Prepare for `next`, which never blocks."""
        os.set_blocking(self._fd, False)

    def stop(self) -> None:
        """Read no more requests."""
        self.is_ended = True
        trio.lowlevel.notify_closing(self._fd)

    async def readable(self) -> bool:
        """Wait for a request; False if none will be read any more."""
        try:
            await trio.lowlevel.wait_readable(self._fd)
        except trio.ClosedResourceError:
            return False
        return True

    def next(self) -> RequestHead | None:
        """Return the next request, or None; its bytes stay in `view` until a handler waits."""
        while True:
            try:
                length = os.readv(self._fd, [self._message])
            except BlockingIOError:
                if not self._lingers or not select.select([self._fd], (), (), LINGER_S)[0]:
                    return None
            except OSError as error:
                if not self._is_readable_yet(error):
                    return None
            else:
                try:
                    return protocol.head(self.view[:length])
                except Exception as error:
                    unique = int.from_bytes(self._message[8:16], sys.byteorder)
                    self.refuse(unique, error, self.next)

    def _is_readable_yet(self, error: OSError) -> bool:
        """Whether to read on after `error`, which is raised if something is used up just now."""
        if error.errno == errno.ENOENT:
            return True  # taken back while it was read
        if error.errno == errno.EINVAL and self._has_grown():
            return True
        if supervise.is_short_of_anything(error):
            raise error  # the leader reads again after a pause
        self.is_ended = True
        self.is_gone.set()
        if error.errno != errno.ENODEV:
            log.warning("the FUSE device cannot be read: %s", error)
        return False

    def _has_grown(self) -> bool:
        """Make room for larger requests: the kernel says that some do not fit."""
        room = 2 * len(self._message)
        if room > _MOST_MESSAGE_BYTES:
            return False
        log.info("the kernel wants room for larger requests: %d KiB", room >> 10)
        self._message = bytearray(room)
        self.view = memoryview(self._message)
        return True

    def put_back(self, message: bytes) -> None:
        """Make `message` the latest request, which was taken from here before."""
        self._message[: len(message)] = message

    def refuse(self, unique: int, error: Exception, work: object) -> None:
        """Answer with an error in any case: otherwise the program would wait, unkillable.

        `error` is a defect of `work`, for the log.
        """
        number = errno.ENOMEM if supervise.is_short_of_memory(error) else errno.EIO
        self.send(protocol.refusal(unique, number))
        supervise.report(work, error)

    def reply(self, request: RequestHead, body: protocol.Buffer) -> bool:
        """Send a reply; return False if the kernel no longer wants it."""
        head = protocol.reply_head(request.unique, len(body))
        try:
            os.writev(self._fd, (head, body))
        except OSError as error:
            if not self._is_late(error):
                self.send(protocol.refusal(request.unique, errno.EIO))
            return False
        return True

    def send(self, message: protocol.Buffer) -> bool:
        try:
            os.write(self._fd, message)
        except OSError as error:
            self._is_late(error)
            return False
        return True

    def _is_late(self, error: OSError) -> bool:
        """Whether the kernel no longer wants the answer; logs any other reason."""
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return True
        log.error("the kernel refused an answer: %s", error)
        return False
