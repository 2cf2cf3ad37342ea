"""Makes the HTTP client of the API plane: time limits, pool, proxies, certificates.

Knows nothing of endpoints, tokens or retries.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import httpx

from up42fs import __version__
from up42fs.api.network import Reached, Routed
from up42fs.deadlines import patient_s
from up42fs.net.certificates import find_trust
from up42fs.net.proxies import route_of

CONNECT_TIMEOUT_S = patient_s(10.0)
READ_TIMEOUT_S = patient_s(15.0)
KEEP_IDLE_S = 30.0
#: Any host, to check whether the proxy variables can be used at all.
_ANY_HOST = "https://up42.invalid"


def make_http(
    *,
    connections: int = 20,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    read_timeout_s: float = READ_TIMEOUT_S,
    transport: httpx.AsyncBaseTransport | None = None,
    reached: Reached | None = None,
    environ: Mapping[str, str] = os.environ,
) -> httpx.AsyncClient:
    """Make an HTTP/1.1 client that honours HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE; no redirects.

    Raises ConfigurationError if those variables cannot be used. `transport` replaces the network
    (tests); the variables are then ignored. `reached` records where the API is.
    """
    limits = httpx.Limits(
        max_connections=connections,
        max_keepalive_connections=connections,
        keepalive_expiry=KEEP_IDLE_S,
    )
    if transport is None:
        if not (environ.get("no_proxy") or environ.get("NO_PROXY")):
            route_of(_ANY_HOST, environ)  # otherwise each request raises
        transport = Routed(dict(environ), find_trust(environ), limits, reached)
    return httpx.AsyncClient(
        headers={
            "User-Agent": f"up42fs/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",  # the encodings that `bounds` unpacks
        },
        timeout=httpx.Timeout(
            read_timeout_s, connect=connect_timeout_s, pool=read_timeout_s + connect_timeout_s
        ),
        follow_redirects=False,
        trust_env=False,
        transport=transport,
    )
