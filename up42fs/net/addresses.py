"""Checks which URLs may be requested from the store.

Knows URLs; nothing of requests. The addresses that a host's name resolves to are checked on connect
(`net.hosts`, `libcurl`).
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from up42fs.errors import InvalidAnswer
from up42fs.net.hosts import is_loopback

#: urlsplit drops characters that libcurl may keep: only URLs that both read alike may pass.
_VISIBLE = re.compile(r"[!-~]+")


def check_url(url: str) -> str:
    """The host of `url`, with its port; raises InvalidAnswer unless it is safe to connect to."""
    try:
        parts = urlsplit(url)
        is_usable = _VISIBLE.fullmatch(url) and parts.hostname and (parts.port or 1)
    except ValueError:
        is_usable = False
    if not is_usable or parts.username or parts.password:
        raise InvalidAnswer("UP42 signed a link that cannot be used: report this")
    host = parts.hostname or ""
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise InvalidAnswer("UP42 signed a link that is not https: report this")
    return parts.netloc
