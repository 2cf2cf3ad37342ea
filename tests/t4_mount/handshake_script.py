"""Runs `up42fs` with a handshake that fails: python handshake_script.py WAY ARGUMENTS…"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import Any

import trio

import up42fs.fuse.answers
import up42fs.fuse.attach
import up42fs.fuse.device
import up42fs.fuse.server

# Their functions are replaced, which has no types.
server: Any = up42fs.fuse.server
negotiate: Any = up42fs.fuse.attach
Server: Any = server.Server
DeviceAnswers: Any = up42fs.fuse.answers.DeviceAnswers
device: Any = up42fs.fuse.device
REAL_RAISE = negotiate.raise_limits


def a_defect() -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise KeyError("a defect")

    negotiate.raise_limits = fail


def an_answer_cut_off() -> None:
    def cut(*messages: Any, **wishes: Any) -> Any:
        reply, negotiated = REAL_RAISE(*messages, **wishes)
        return reply[:20], negotiated

    negotiate.raise_limits = cut


def an_answer_of_another_version() -> None:
    def other(*messages: Any, **wishes: Any) -> Any:
        reply, negotiated = REAL_RAISE(*messages, **wishes)
        return reply[:16] + b"\x63" + reply[17:], negotiated

    negotiate.raise_limits = other


def no_device() -> None:
    negotiate.socket.recv_fds = lambda *_: (b"", [], 0, None)


def no_answer_from_libfuse() -> None:
    async def wait(*_: Any) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    negotiate.StandIn.exchange = wait
    negotiate.HANDSHAKE_TIMEOUT_S = 2.0


def a_mute_mount() -> None:
    async def wait(*_: Any) -> None:
        await trio.sleep_forever()

    DeviceAnswers.answer = wait


def errors_for_answers() -> None:
    async def refuse(self: Any, request: Any) -> None:
        self._device.send(server.protocol.refusal(request.unique, errno.EIO))

    DeviceAnswers.answer = refuse


def a_server_that_fails() -> None:
    async def fail(*_: Any) -> None:
        raise ValueError("a defect")

    Server.serve = fail


def a_device_that_refuses() -> None:
    def refuse(*_: Any) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    os.readv = refuse


def a_small_buffer() -> None:
    device._MESSAGE_BYTES = 8192


WAYS: dict[str, Callable[[], None]] = {
    way.__name__: way
    for way in (
        a_defect,
        an_answer_cut_off,
        an_answer_of_another_version,
        no_device,
        no_answer_from_libfuse,
        a_mute_mount,
        errors_for_answers,
        a_server_that_fails,
        a_device_that_refuses,
        a_small_buffer,
    )
}

if __name__ == "__main__":
    from up42fs.cli.main import main

    WAYS[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
