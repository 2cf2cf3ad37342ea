"""What broken and hostile clients send: each gets one answer or none, and the others go on."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from harness import Emulator, Served, emulator, served, wait_until

from up42fs.emulator.content import pattern_bytes

SIZE, SEED = 9_000_000, 3
BIG = "/assets/big.bin"
LONG_S = 20
CLOSE = "Host: localhost\r\nConnection: close\r\n"


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    with emulator("--synthetic", "3,1,1") as running:
        running.remote.storage(
            "add_asset", name="big.bin", size=SIZE, seed=SEED, tags=["<b>\u202e"]
        )
        yield running


@pytest.fixture(scope="module")
def server(store: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(store.env, home=tmp_path_factory.mktemp("served")) as running:
        requests.get(running.url(BIG) + "?proxy", timeout=LONG_S)
        yield running
        log = running.text()
        assert "Traceback" not in log, log[log.index("Traceback") - 400 :][:6000]


def raw(server: Served, request: str) -> bytes:
    """All that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), LONG_S) as connection:
        connection.sendall(request.encode("latin-1"))
        told = b""
        while piece := connection.recv(1 << 16):
            told += piece
        return told


def status(told: bytes) -> int:
    return int(told.split()[1])


@pytest.mark.claim("S295")
@pytest.mark.parametrize(
    "path",
    [
        *("/%2e%2e/%2e%2e/etc/passwd", "/assets/%2e%2e/orders", "/assets/..%2f..%2fetc"),
        *("/%c0%ae%c0%ae/", "/%c0%af", "/%e0%80%ae/", "/%25%32%65%25%32%65/", "/..;/x"),
        *("/%00", "/assets/big.bin%00.html", "//evil.example/", "/assets\\..\\x", "/~/../x"),
        *("/-/../../etc/passwd", "/-/%2e%2e%2fpage.py", "/-/info/%2e%2e", "/-/cached/.."),
        *("/id/../x", "/%ED%A0%80", "*", "http://evil.example/x", "/" + "x" * 9000),
        *("/search/%00", "/search/" + "a" * 3000, "/-/info/search/" + "(" * 2000),
        "/?" + "&".join(f"a{number}=1" for number in range(40)),
        "/-/about?" + "&" * 30_000,
    ],
)
def test_paths_that_lead_nowhere(server: Served, path: str) -> None:
    told = raw(server, f"GET {path} HTTP/1.1\r\n{CLOSE}\r\n")
    assert status(told) in (400, 404, 414), told[:200]
    assert b"root:" not in told


@pytest.mark.claim("S295")
@pytest.mark.parametrize(
    "header",
    [
        *("Content-Length: 5\r\nTransfer-Encoding: chunked", "Content-Length: 5"),
        *("Content-Length: 0\r\nContent-Length: 5", "Content-Length: -1", "Content-Length: +0"),
        *("Content-Length: 0x0", "Content-Length: 00", "Transfer-Encoding: xchunked"),
        *("Transfer-Encoding: identity", "Transfer-Encoding : chunked", "X: a\0b", "X: a\rY: b"),
        *("Host: evil.example", "Expect: 100-continue\r\nContent-Length: 5"),
    ],
)
def test_requests_that_two_servers_may_read_differently(server: Served, header: str) -> None:
    """The first is refused, and nothing that follows on the connection is answered."""
    follows = "0\r\n\r\nGET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    told = raw(server, f"GET /healthz HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n{follows}")
    answers = [part for part in told.split(b"HTTP/1.1 ")[1:] if not part.startswith(b"100")]
    assert len(answers) == 1, told
    assert answers[0].split()[0] in (b"400", b"413", b"501")


@pytest.mark.claim("S295")
def test_the_last_request_of_a_connection_is_answered_whatever_follows(server: Served) -> None:
    follows = "GET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\nnonsense"
    for _ in range(20):  # the order of two tasks is chance
        told = raw(server, f"GET /healthz HTTP/1.1\r\n{CLOSE}\r\n{follows}")
        assert (status(told), told[-3:], told.count(b"HTTP/1.1 ")) == (200, b"ok\n", 1)
    ahead = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100
    told = raw(server, ahead + f"GET /healthz HTTP/1.1\r\n{CLOSE}\r\n")
    assert told.count(b"HTTP/1.1 200") == 101


@pytest.mark.claim("S282")
@pytest.mark.parametrize(
    "host",
    [
        *("localhost.evil.example", "127.0.0.1.nip.io", "0.0.0.0", "127.1", "2130706433", "0x7f.1"),
        *("", "localhost@evil.example", "localhost/evil", "localhost evil", "192.168.1.1"),
        *("169.254.169.254", "[fe80::1%25eth0]", "[::]", "localhost,evil.example"),
    ],
)
def test_hosts_that_are_not_this_one(server: Served, host: str) -> None:
    told = raw(server, f"GET {BIG} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    assert status(told) in (400, 403), told[:200]
    assert b"location:" not in told.lower()


@pytest.mark.claim("S295")
def test_ranges_that_are_bombs_or_none(server: Served) -> None:
    for value, wanted in (
        ("bytes=" + ",".join(["0-0"] * 5000), SIZE),
        ("bytes=-", SIZE),
        ("bytes=5-1", SIZE),
        ("items=0-1", SIZE),
        ("bytes=99999999999999999999-", SIZE),
        ("bytes=1e3-", SIZE),
        (f"bytes={SIZE - 1}-99999999999999", 1),
    ):
        told = raw(server, f"GET {BIG}?proxy HTTP/1.1\r\n{CLOSE}Range: {value}\r\n\r\n")
        head, _, body = told.partition(b"\r\n\r\n")
        assert len(body) == wanted, (value, head)
    told = raw(server, f"GET {BIG}?proxy HTTP/1.1\r\n{CLOSE}Range: bytes=-0\r\n\r\n")
    assert status(told) == 416


@pytest.mark.claim("S295")
def test_methods_and_large_heads(server: Served) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "G" * 5000):
        assert status(raw(server, f"{method} {BIG} HTTP/1.1\r\n{CLOSE}\r\n")) == 405
    told = raw(server, f"GET /healthz HTTP/1.1\r\n{CLOSE}X: {'a' * 200_000}\r\n\r\n")
    assert not told or status(told) in (200, 400, 431)
    assert requests.get(server.url("/healthz"), timeout=LONG_S).ok


@pytest.mark.claim("S286")
def test_clients_that_break_off_leave_nothing(server: Served) -> None:
    """Neither descriptors, nor open files, nor a traceback in the log (the fixture looks)."""

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{server.process.pid}/fd"))

    before = descriptors()
    for number in range(60):
        connection = socket.create_connection(("127.0.0.1", server.port), LONG_S)
        if number % 2:  # a reset, and not an end
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.sendall(f"GET {BIG}?proxy HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        with suppress(OSError):
            connection.recv(1000 if number % 3 else 0)
        connection.close()

    def rests() -> bool:
        told = requests.get(server.url("/status.json"), timeout=LONG_S).json()
        return not told["open"]["open_files"] and descriptors() <= before + 4

    wait_until(rests, LONG_S, "all connections are closed")


@pytest.mark.claim("S295")
def test_thousands_of_requests_take_no_memory(server: Served) -> None:
    def resident_kib() -> int:
        pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") // 1024

    with socket.create_connection(("127.0.0.1", server.port), LONG_S) as connection:

        def ask(times: int) -> None:
            request = f"GET {BIG} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            for _ in range(times // 50):
                connection.sendall(request * 50)
                told = b""
                while told.count(b"\r\n\r\n") < 50:
                    told += connection.recv(1 << 16)
                assert told.count(b"HTTP/1.1 302") == 50

        ask(500)
        before = resident_kib()
        ask(3000)
    assert resident_kib() - before < 20 * 1024


def test_names_that_mean_something_to_browsers_stay_names(store: Emulator, server: Served) -> None:
    path = "/tags/" + quote("<b>\u202e")
    page = requests.get(server.url(path), timeout=LONG_S)
    if page.status_code == 404:  # the tree shows it otherwise
        listed = requests.get(server.url("/tags/") + "?json", timeout=LONG_S).json()
        path = next(entry["href"] for entry in listed["entries"] if "b>" in entry["name"])
        page = requests.get(path, timeout=LONG_S)
    assert page.status_code == 200
    assert "<b>" not in page.text
    assert "&lt;b&gt;" in page.text


@pytest.mark.claim("S295")
def test_sigterm_ends_a_transfer_that_nobody_reads(store: Emulator, tmp_path: Path) -> None:
    with served(store.env, "--proxy", home=tmp_path) as server:
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", server.port))
        slow.sendall(f"GET {BIG} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert slow.recv(100)
        # A fast one is finished.
        answer = requests.get(server.url(BIG), stream=True, timeout=LONG_S)
        first = next(answer.iter_content(1000))
        server.process.terminate()
        rest = b"".join(answer.iter_content(1 << 20))
        assert first + rest == pattern_bytes(SEED, 0, SIZE)
        assert server.process.wait(30) == 0
        slow.close()
