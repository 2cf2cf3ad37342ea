"""The way of the requests that come rarely: to libfuse as they are, and its answers to the device.

These are small and few, so the socket never fills: nothing that carries data goes here.
"""

from __future__ import annotations

import socket
from contextlib import suppress

import trio

from up42fs.fuse.device import Device
from up42fs.fuse.protocol import RequestHead

#: Room for one of libfuse's answers, which carry no data.
_REPLY_BYTES = 64 * 1024


class Passage:
    """`libfuse` is the near end of a SEQPACKET pair; the caller closes it."""

    def __init__(self, device: Device, libfuse: socket.socket) -> None:
        self._device = device
        self._libfuse = libfuse
        self._reply = memoryview(bytearray(_REPLY_BYTES))
        self._queue = trio.Lock()

    async def pass_on(self, request: RequestHead) -> None:
        """Hand a request to libfuse, whose answer `relay` passes on."""
        message = bytes(self._device.view[: request.length])
        if self._hand_over(message):
            return
        async with self._queue:  # only one task may wait for a descriptor
            while not self._hand_over(message):
                await trio.lowlevel.wait_writable(self._libfuse)

    def _hand_over(self, message: bytes) -> bool:
        try:
            self._libfuse.send(message)
        except BlockingIOError:
            return False
        return True

    async def relay(self) -> None:
        """Pass libfuse's answers on until cancelled, then those that have arrived by then."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._libfuse)
                self._hand_on()
        finally:
            self._hand_on()

    def _hand_on(self) -> None:
        with suppress(BlockingIOError):
            while length := self._libfuse.recv_into(self._reply):
                self._device.send(self._reply[:length])
