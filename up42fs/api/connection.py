"""Makes the HTTP client of the API plane: time limits, pool, proxies, certificates.

Knows nothing of endpoints, tokens or retries.
"""

from __future__ import annotations

import httpx

from up42fs import __version__
from up42fs.errors import ConfigurationError
from up42fs.patience import patient_s

CONNECT_TIMEOUT_S = patient_s(10.0)
READ_TIMEOUT_S = patient_s(15.0)
KEEP_IDLE_S = 30.0
#: Loopback is never reached through a proxy, whatever the environment says.
_DIRECT = ("all://localhost", "all://127.0.0.1", "all://[::1]")


def make_http(
    *,
    connections: int = 20,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    read_timeout_s: float = READ_TIMEOUT_S,
    transport: httpx.AsyncBaseTransport | None = None,
) -> httpx.AsyncClient:
    """An HTTP/1.1 client that honours HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE; no redirects.

    Raises ConfigurationError where those variables cannot be used. `transport` replaces the
    network (tests); the variables are then ignored.
    """
    try:
        return httpx.AsyncClient(
            headers={
                "User-Agent": f"up42fs/{__version__}",
                "Accept": "application/json",
                "Accept-Encoding": "gzip, deflate",  # what `bounds` unpacks
            },
            timeout=httpx.Timeout(
                read_timeout_s, connect=connect_timeout_s, pool=read_timeout_s + connect_timeout_s
            ),
            limits=httpx.Limits(
                max_connections=connections,
                max_keepalive_connections=connections,
                keepalive_expiry=KEEP_IDLE_S,
            ),
            follow_redirects=False,
            http2=False,
            trust_env=transport is None,
            transport=transport,
            mounts=None if transport is not None else dict.fromkeys(_DIRECT),
        )
    # Proxy addresses may carry passwords: the original words are not repeated.
    except ImportError:
        raise ConfigurationError(
            "the proxy in HTTPS_PROXY or ALL_PROXY is a SOCKS proxy, which up42fs cannot use; "
            "set HTTPS_PROXY to an HTTP proxy or unset it"
        ) from None
    except (ValueError, httpx.InvalidURL):
        raise ConfigurationError(
            "the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY is not a usable address; "
            "set it to something like http://proxy.example:3128 or unset it"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"the certificates in SSL_CERT_FILE or SSL_CERT_DIR cannot be read "
            f"({error.strerror or type(error).__name__}); set it to a readable PEM file or unset it"
        ) from None
