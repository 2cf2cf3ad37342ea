"""The servers of the files: nginx as the object store, UP42's API before it, a line between.

nginx checks the links that the emulator signs and counts requests and bytes. A `Site` is one way
there: with a delay, a limited rate, or TLS. Below `/open/` the same files need no link: rclone
knows none, so it is spared them.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from processes import running

from up42fs.emulator.external import SECRET_ENV, ExternalStore
from up42fs.emulator.remote import Remote

HOST = "127.0.0.1"
LINE = Path(__file__).with_name("line.py")
#: As UP42's.
LINK_LIFE_S = 300.0
START_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Leg:
    """How the store is reached; rates in Mbit/s, 0 for none."""

    title: str
    delay_ms: float = 0
    shared_mbit: float = 0
    connection_mbit: float = 0
    tls: bool = False

    @property
    def has_line(self) -> bool:
        """Whether a proxy stands between."""
        return bool(self.delay_ms or self.shared_mbit or self.connection_mbit)


LEGS = {
    "line": Leg("50 ms a request, one line of 200 Mbit/s", 50, shared_mbit=200),
    "pipes": Leg("50 ms a request, 25 MB/s a connection", 50, connection_mbit=200),
    "tls": Leg("TLS on loopback, no delay", tls=True),
    "loop": Leg("loopback, no delay"),
    "tls-line": Leg("TLS, 50 ms a turn, one line of 200 Mbit/s", 50, shared_mbit=200, tls=True),
}

NGINX = """\
daemon off;
{user}
worker_processes 1;
pid {home}/nginx.pid;
error_log {home}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  log_format counted '$msec $request_time $status $body_bytes_sent $request_method $uri';
  access_log {home}/access.log counted;
  sendfile on;
  tcp_nodelay on;
  keepalive_requests 1000000;
  default_type application/octet-stream;
  client_body_temp_path {home}; proxy_temp_path {home}; fastcgi_temp_path {home};
  uwsgi_temp_path {home}; scgi_temp_path {home};
  server {{
    # What was sent to a client that then hangs up counts: little is sent ahead.
    listen {host}:{plain} sndbuf=128k;
    listen {host}:{quick};
    listen {host}:{tls} ssl;
    ssl_certificate {home}/cert.pem;
    ssl_certificate_key {home}/key.pem;
    ssl_session_cache shared:links:1m;
    error_page 461 = @expired;
    error_page 462 = @forged;
    error_page 463 = @header;
    location / {{
      root {folder};
      secure_link $arg_Signature,$arg_Expires;
      secure_link_md5 "$secure_link_expires$uri {secret}";
      if ($http_authorization) {{ return 463; }}
      if ($content_type) {{ return 462; }}
      if ($secure_link = "") {{ return 462; }}
      if ($secure_link = "0") {{ return 461; }}
    }}
    location /open/ {{ alias {folder}/; autoindex on; }}
    location @expired {{
      default_type application/xml;
      return 400 "<?xml version='1.0'?><Error><Code>ExpiredToken</Code></Error>";
    }}
    location @forged {{
      default_type application/xml;
      return 403 "<?xml version='1.0'?><Error><Code>SignatureDoesNotMatch</Code></Error>";
    }}
    location @header {{
      default_type application/xml;
      return 400 "<?xml version='1.0'?><Error><Code>InvalidArgument</Code></Error>";
    }}
  }}
}}
"""


class SiteGoneError(Exception):
    """The store, the API or the line between has ended while it was measured through."""


@dataclass(frozen=True)
class Served:
    """One request as nginx saw it: when it came (Unix seconds), its status, bytes of its body."""

    began_s: float
    status: int
    body_bytes: int


@dataclass(frozen=True)
class Ports:
    """Of one nginx: for a line before it, for clients themselves, for TLS."""

    plain: int
    quick: int
    tls: int


@dataclass(frozen=True)
class Store:
    """The one nginx of a run."""

    folder: Path
    home: Path
    ports: Ports
    secret: str
    process: subprocess.Popen[str]

    @property
    def ca_file(self) -> Path:
        """Certificate to trust for TLS."""
        return self.home / "cert.pem"

    def position(self) -> int:
        """The present end of the log."""
        return (self.home / "access.log").stat().st_size

    def served_since(self, position: int, moment_s: float) -> list[Served]:
        """Requests logged from `position` on that came at or after `moment_s` (Unix seconds).

        A request is logged at its end, which may be long after it came.
        """
        with (self.home / "access.log").open() as log:
            log.seek(position)
            rows = [line.split(" ", 4) for line in log]
        served = [
            Served(float(ended) - float(took), int(status), int(count))
            for ended, took, status, count, _ in rows
        ]
        return [one for one in served if one.began_s >= moment_s]


@dataclass(frozen=True)
class Site:
    """One leg, in service: its addresses, and the environment that leads up42fs to its API."""

    leg: Leg
    store: Store
    url: str
    env: dict[str, str]
    remote: Remote
    processes: tuple[subprocess.Popen[str], ...]

    def ensure_alive(self) -> None:
        """Raise `SiteGoneError` where a process of the site has ended: nothing it said counts."""
        for process in self.processes:
            if process.poll() is not None:
                raise SiteGoneError(f"{process.args!r} ended with status {process.returncode}")

    @property
    def open_url(self) -> str:
        """The same files without links."""
        return f"{self.url}/open/"

    @property
    def tls_env(self) -> dict[str, str]:
        """Makes libcurl, GDAL and up42fs trust the store."""
        if not self.leg.tls:
            return {}
        return dict.fromkeys(("SSL_CERT_FILE", "CURL_CA_BUNDLE"), str(self.store.ca_file))

    def link(self, name: str) -> str:
        """A fresh link to the file of that relative name, ready for use."""
        signer = ExternalStore(self.url, self.store.folder, self.store.secret)
        return signer.link(self.store.folder / name, time.time() + LINK_LIFE_S)


@contextmanager
def store(folder: Path, home: Path, secret: str) -> Iterator[Store]:
    """nginx on the files below `folder`, its own files in `home`."""
    ports = Ports(*free_ports(3))
    user = "user root;" if os.getuid() == 0 else ""
    (home / "nginx.conf").write_text(
        NGINX.format(user=user, home=home, host=HOST, folder=folder, secret=secret, **vars(ports))
    )
    make_certificate(home)
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or "nginx"
    command = [nginx, "-p", str(home), "-c", str(home / "nginx.conf"), "-e", "stderr"]
    with running(command) as process:
        wait_for_port(ports.plain, process)
        yield Store(folder, home, ports, secret, process)


@contextmanager
def site(leg: Leg, store: Store) -> Iterator[Site]:
    """The store by way of a leg, with an API of its own that signs links leading that way."""
    port = store.ports.tls if leg.tls else store.ports.quick
    with line(leg, store.ports.tls if leg.tls else store.ports.plain) as between:
        line_port, lines = between
        url = f"{'https' if leg.tls else 'http'}://{HOST}:{line_port or port}"
        command = [
            *(sys.executable, "-P", "-m", "up42fs", "emulator", "--die-with-parent"),
            *("--data", str(store.folder), "--external-store", url),
            *("--latency-s", str(leg.delay_ms / 1e3), "--link-life-s", str(LINK_LIFE_S)),
        ]
        with running(
            command,
            stdout=subprocess.PIPE,
            env=os.environ | {SECRET_ENV: store.secret},
        ) as process:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            remote = Remote(ready["control_url"])
            yield Site(leg, store, url, ready["env"], remote, (store.process, process, *lines))


@contextmanager
def line(leg: Leg, port: int) -> Iterator[tuple[int | None, tuple[subprocess.Popen[str], ...]]]:
    """The port and process of the proxy that makes the leg's delay and rates, where it has any."""
    if not leg.has_line:
        yield None, ()
        return
    command = [
        *(sys.executable, str(LINE), "--to", str(port), "--delay-ms", str(leg.delay_ms)),
        *("--shared-mbit", str(leg.shared_mbit), "--connection-mbit", str(leg.connection_mbit)),
    ]
    with running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline()), (process,)


def make_certificate(home: Path) -> None:
    """A certificate for the loopback address that is its own authority."""
    command = [
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-days", "30", "-subj", "/CN=up42fs bench"),
        *("-addext", f"subjectAltName=IP:{HOST}"),
        *("-keyout", str(home / "key.pem"), "-out", str(home / "cert.pem")),
    ]
    subprocess.run(command, check=True, capture_output=True)


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for_port(port: int, process: subprocess.Popen[str]) -> None:
    """Wait until something accepts; RuntimeError where the process ends before, or too late."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with status {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} did not listen within {START_TIMEOUT_S:g} s")
