"""Mounts, and handles FUSE_INIT in libfuse's place to request settings that pyfuse3 cannot.

Theory. Three settings are agreed on in the handshake (FUSE_INIT) or never: lookups and listings of
one directory side by side (PARALLEL_DIROPS; without it one slow answer holds up its directory), and
the two limits on background requests in the whole mount (12, unless answered otherwise; the file in
/sys that raises the limit later is rarely mounted). libfuse 3 leaves all three at poor defaults and
pyfuse3 has no hook. So libfuse gets a socket for a device:

1. fusermount3 mounts and hands over the device, as it does to libfuse.
2. pyfuse3 is initialised with one end of a socket pair under its name in /dev/fd, which libfuse
   takes for an open device: it then neither mounts nor unmounts.
3. FUSE_INIT is read from the device and written to the other end; pyfuse3 runs until its reply
   arrives, and is then made to stop waiting. Its session goes on: `main()` can be entered again.
4. The reply is patched (`raise_limits`) and written to the device; the mount is now alive. `server`
   serves the device, and passes through the socket what it leaves to libfuse.

Rules. Only one request and one reply pass through the socket: no notifications may be sent until
`negotiate` has returned. Every step shares one deadline. After any failure before the reply is
written, cancellation included, nothing stays mounted and pyfuse3 can be initialised anew. This
module unmounts, since libfuse does not know the mount point.

Rejected: a proxy of all requests (a copy of every read), a patched libfuse (not available to
install), calling libfuse by ctypes (its structures change from version to version).
"""

from __future__ import annotations

import logging
import os
import resource
import select
import socket
import subprocess
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import pyfuse3
import trio

from up42fs.fuse.detach import detach
from up42fs.fuse.handshake import Negotiated, raise_limits
from up42fs.fuse.mount_table import Mount, mount_at

log = logging.getLogger(__name__)

#: Timeout of the whole handshake, seconds, as for a mount; it normally takes 20 ms.
HANDSHAKE_TIMEOUT_S = 10.0
#: Environment variable that overrides the machine's page size, for tests.
PAGE_VARIABLE = "UP42FS_PAGE_SIZE"
_UNMOUNT_TIMEOUT_S = 5.0
#: Larger than any first message; the kernel requires at least 8 KiB of room for a read.
_MESSAGE_BYTES = 64 * 1024
_PAUSE_S = 0.001


class HandshakeFailed(Exception):
    """The handshake is not possible here; the message gives the reason. Nothing is left mounted."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A live mount of this process: its mount point, its line in the kernel's table, its device.

    `libfuse` is the socket through which libfuse receives requests.
    """

    mountpoint: Path
    mount: Mount | None
    device_fd: int
    negotiated: Negotiated
    libfuse: socket.socket

    def close(self, *, unmount: bool = True) -> None:
        """End pyfuse3's session and unmount lazily, unless it was unmounted from outside.

        With `unmount` False the mount stays: every access to it fails with ENOTCONN from now on. A
        dead connection is left alone: another file system may be mounted there by now, with the
        same device number.
        """
        is_ours = is_connected(self.device_fd) and mount_at(self.mountpoint) == self.mount
        pyfuse3.close(unmount=False)
        self.libfuse.close()
        os.close(self.device_fd)  # later accesses fail instead of waiting forever
        if is_ours and unmount:
            take_away(self.mountpoint)


async def negotiate(
    operations: pyfuse3.Operations,
    mountpoint: Path,
    options: AbstractSet[str],
    *,
    max_background: int,
    congestion_threshold: int,
) -> Attached:
    """Mount at `mountpoint` (absolute, resolved) with libfuse's mount `options`.

    Afterwards serve the device (`server`), and call `pyfuse3.main` for what passes through the
    socket. End the mount with `Attached.close` instead of `pyfuse3.close`. Raises HandshakeFailed.
    """
    before = mount_at(mountpoint)
    try:
        with trio.fail_after(HANDSHAKE_TIMEOUT_S):
            device_fd = await _mount(mountpoint, options)
            try:
                mount = mount_at(mountpoint)
                request = await _read_first_request(device_fd)
                with StandIn(operations) as stand_in:
                    reply = await stand_in.exchange(request)
                    patched, negotiated = raise_limits(
                        request,
                        reply,
                        max_background=max_background,
                        congestion_threshold=congestion_threshold,
                        page_bytes=page_bytes(),
                    )
                    os.write(device_fd, patched)
                    libfuse = stand_in.detach()
                    return Attached(mountpoint, mount, os.dup(device_fd), negotiated, libfuse)
            finally:
                os.close(device_fd)
    except BaseException as error:
        if mount_at(mountpoint) != before:
            take_away(mountpoint)
        # Whatever it was, a plain mount may still do: it is tried next.
        if isinstance(error, Exception) and not isinstance(error, HandshakeFailed):
            raise HandshakeFailed(_reason(error)) from error
        raise


def page_bytes() -> int:
    return int(os.environ.get(PAGE_VARIABLE) or resource.getpagesize())


async def _mount(mountpoint: Path, options: AbstractSet[str]) -> int:
    """Run fusermount3 as libfuse does; return the device."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = await trio.run_process(
            ["fusermount3", "-o", ",".join(sorted(options)), "--", str(mountpoint)],
            stdin=subprocess.DEVNULL,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd="/",
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=(theirs.fileno(),),
        )
        if done.returncode:
            lines = os.fsdecode(done.stderr).strip().splitlines()
            raise HandshakeFailed(lines[-1] if lines else f"fusermount3: status {done.returncode}")
        theirs.close()
        ours.setblocking(False)  # `recv_fds` ignores its flags in Python 3.11
        descriptors = socket.recv_fds(ours, 1, 1)[1]
    if not descriptors:
        raise HandshakeFailed("fusermount3 handed over no device")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


async def _read_first_request(device_fd: int) -> bytes:
    await trio.lowlevel.wait_readable(device_fd)
    return os.read(device_fd, _MESSAGE_BYTES)


class StandIn:
    """The socket that libfuse takes for the device."""

    def __init__(self, operations: pyfuse3.Operations) -> None:
        self._operations = operations

    def __enter__(self) -> StandIn:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._libfuse_fd = theirs.detach()
        try:
            pyfuse3.init(self._operations, f"/dev/fd/{self._libfuse_fd}", set())
        except BaseException:
            os.close(self._libfuse_fd)
            self._ours.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ours.close()
        if kind is not None:
            pyfuse3.close(unmount=False)  # closes libfuse's end as well

    async def exchange(self, request: bytes) -> bytes:
        """Return libfuse's reply; its session goes on, and no task waits on its descriptor."""
        ours = trio.socket.from_stdlib_socket(self._ours)
        await ours.send(request)
        ended = trio.Event()

        async def serve_one() -> None:
            await pyfuse3.main(min_tasks=1, max_tasks=1)
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_one)
            reply = await ours.recv(_MESSAGE_BYTES)
            while not ended.is_set():
                # The worker may be anywhere between its reply and its next wait: repeat.
                trio.lowlevel.notify_closing(self._libfuse_fd)
                await trio.sleep(_PAUSE_S)
        return bytes(reply)

    def detach(self) -> socket.socket:
        """The near end of the socket, non-blocking; the caller owns it from now on."""
        near = self._ours.dup()
        near.setblocking(False)
        return near


def is_connected(device_fd: int) -> bool:
    """Whether the kernel's end of the device is open, that is, the mount still exists."""
    device = select.poll()
    device.register(device_fd, 0)
    return not device.poll(0)


def take_away(mountpoint: Path) -> None:
    """Take a mount away lazily; logs what to do where that fails. Blocks for some seconds."""
    reason = detach(mountpoint, lazy=True, timeout_s=_UNMOUNT_TIMEOUT_S)
    if reason is not None and mount_at(mountpoint) is not None:
        log.warning(
            "%s is still mounted: %s; run: up42fs unmount %s", mountpoint, reason, mountpoint
        )


def _reason(error: Exception) -> str:
    if isinstance(error, trio.TooSlowError):
        return f"it took more than {HANDSHAKE_TIMEOUT_S:.0f} s"
    return str(error) or repr(error)
