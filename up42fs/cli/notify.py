"""Reports a service's state to systemd (sd_notify(3)), if `NOTIFY_SOCKET` requests it."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from up42fs.visible import visible


def notify(**state: str) -> None:
    """Send assignments such as `READY="1"`; a socket that is gone is not an error."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address.startswith("@"):
        address = "\0" + address[1:]
    elif not address.startswith("/"):
        return
    message = "\n".join(f"{name}={visible(value)}" for name, value in state.items())
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(message.encode(), address)
