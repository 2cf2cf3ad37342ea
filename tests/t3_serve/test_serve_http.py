"""`up42fs serve` as a process, asked over HTTP: redirects, bytes, documents, directories."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import requests
from harness import UP42FS, Emulator, Served, emulator, run, served, wait_until

from up42fs.emulator.content import pattern_bytes

SIZE, SEED = 5_000_000, 7
DATA = pattern_bytes(SEED, 0, SIZE)
BIG = "/assets/big.bin"
#: A run as long as this was dropped from memory behind its reader.
LONG = 40_000_000
LONG_S = 20


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    with emulator() as running:
        running.remote.storage("add_asset", name="big.bin", size=SIZE, seed=SEED, tags=["köln 1"])
        running.remote.storage("add_asset", name="page.html", size=40_000, seed=2)
        running.remote.storage("add_asset", name="long.bin", size=LONG, seed=SEED)
        yield running


@pytest.fixture(scope="module")
def server(store: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(store.env, home=tmp_path_factory.mktemp("served")) as running:
        yield running


def get(server: Served, path: str, query: str = "", **words) -> requests.Response:
    words.setdefault("allow_redirects", False)
    return requests.get(server.url(path) + query, timeout=LONG_S, **words)


def since(store: Emulator) -> int:
    return len(store.remote.log(0))


@pytest.mark.claim("S280")
def test_a_file_is_a_redirect_to_a_link(store: Emulator, server: Served) -> None:
    for method in ("GET", "HEAD"):
        answer = requests.request(method, server.url(BIG), allow_redirects=False, timeout=LONG_S)
        assert answer.status_code == 302
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["location"].startswith(store.ready["store_url"])
        assert answer.content == b""
    answer = get(server, BIG, allow_redirects=True, headers={"Range": "bytes=1000000-1000999"})
    assert answer.status_code == 206
    assert answer.content == DATA[1_000_000:1_001_000]


WINDOWS = """
import sys, rasterio
from rasterio.windows import Window
with rasterio.open(sys.argv[1]) as image:
    for corner in (0, 300, 600):
        print(int(image.read(1, window=Window(corner, corner, 64, 64)).sum()))
"""


@pytest.mark.claim("S373")
def test_gdal_asks_the_store_for_the_same_by_address_and_by_link(
    store: Emulator, server: Served
) -> None:
    """Each in a process of its own; what each request asks for is up to GDAL."""
    pytest.importorskip("rasterio", reason="no rasterio: pip install 'up42fs[geo]'")
    tiff = "/assets/elevation_berlin.tif"
    link = get(server, tiff).headers["location"]
    env = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "PYTHONWARNINGS": "ignore"}
    found = []
    for address in (link, server.url(tiff)):
        began = store.remote.position()
        told = run(sys.executable, "-c", WINDOWS, address, env=env)
        assert told.returncode == 0, told.stderr
        log = store.remote.log(began)
        assert [each["route"] for each in log if not each["route"].startswith("store.")] == []
        found.append((told.stdout, [(each["method"], each["range"]) for each in log]))
    assert found[0] == found[1]
    assert len(found[0][1]) >= 2


def test_a_file_is_named_by_its_id_too(store: Emulator, server: Served) -> None:
    by_id = f"/id/{store.asset('big.bin')}"
    for path in (by_id, by_id + "/any.tif"):
        answer = get(server, path, allow_redirects=True, headers={"Range": "bytes=5-9"})
        assert (answer.status_code, answer.content) == (206, DATA[5:10])
    part = get(server, by_id, "?proxy", headers={"Range": "bytes=100-109"})
    assert (part.status_code, part.content) == (206, DATA[100:110])
    known = get(server, by_id, "?proxy", headers={"If-None-Match": part.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    assert get(server, by_id, "?proxy").content == DATA
    assert requests.head(server.url(by_id) + "?proxy", timeout=LONG_S).headers[
        "content-length"
    ] == str(SIZE)
    assert get(server, by_id + "/any.tif", "?proxy").headers["content-type"] == "image/tiff"
    for query in ("", "?proxy"):
        absent = get(server, "/id/00000000-0000-4000-8000-000000000000", query)
        assert absent.status_code == 404
    assert get(server, "/id/a%2Fb").status_code in (400, 404)


@pytest.mark.claim("S280")
def test_any_number_of_clients_cost_one_token_and_one_link(tmp_path: Path) -> None:
    with emulator("--synthetic", "3,1,1") as store:
        store.remote.storage("add_asset", name="big.bin", size=SIZE, seed=SEED)
        with served(store.env, home=tmp_path) as server:
            wait_until(lambda: get(server, BIG).status_code == 302, 10, "the file is listed")
            threads = [
                threading.Thread(target=lambda: [get(server, BIG) for _ in range(20)])
                for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            routes = [request["route"] for request in store.remote.log(0)]
            assert routes.count("auth.token") == 1, routes
            assert routes.count("assets.sign") == 1, routes


def test_bytes_come_through_the_cache(store: Emulator, server: Served) -> None:
    whole = get(server, BIG, "?proxy")
    assert (whole.status_code, whole.content) == (200, DATA)
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-length"] == str(SIZE)
    assert whole.headers["content-security-policy"] == "default-src 'none'; sandbox"
    etag, modified = whole.headers["etag"], whole.headers["last-modified"]
    assert etag.startswith('"')
    before = since(store)
    for spec, span in (
        ("bytes=0-0", slice(0, 1)),
        ("bytes=-7", slice(SIZE - 7, SIZE)),
        ("bytes=4999999-", slice(SIZE - 1, SIZE)),
        ("bytes=100-2500000", slice(100, 2_500_001)),
    ):
        part = get(server, BIG, "?proxy", headers={"Range": spec, "If-Range": etag})
        assert (part.status_code, part.content) == (206, DATA[span]), spec
        start, stop, _ = span.indices(SIZE)
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
        assert part.headers["etag"] == etag
    beyond = get(server, BIG, "?proxy", headers={"Range": f"bytes={SIZE}-"})
    assert (beyond.status_code, beyond.content) == (416, b"")
    assert beyond.headers["content-range"] == f"bytes */{SIZE}"
    for headers in ({"If-None-Match": etag}, {"If-Modified-Since": modified}):
        known = get(server, BIG, "?proxy", headers=headers)
        assert (known.status_code, known.content) == (304, b"")
        assert known.headers["etag"] == etag
    other = get(server, BIG, "?proxy", headers={"If-Match": '"other"'})
    assert (other.status_code, other.content) == (412, b"")
    several = get(server, BIG, "?proxy", headers={"Range": "bytes=0-1,5-6"})
    assert (several.status_code, several.content) == (200, DATA)
    head = requests.head(server.url(BIG) + "?proxy", timeout=LONG_S)
    assert head.headers["content-length"] == str(SIZE)
    # All of it was in memory or on disk.
    assert since(store) == before


@pytest.mark.claim("S290")
def test_what_was_read_whole_is_in_memory_for_the_next(store: Emulator, server: Served) -> None:
    def loaded() -> int:
        return int(get(server, "/status.json").json()["counters"].get("store.disk_hits_bytes", 0))

    def read_whole() -> None:
        data = get(server, "/assets/long.bin", "?proxy").content
        assert data == pattern_bytes(SEED, 0, LONG)

    read_whole()
    before, asked = loaded(), since(store)
    read_whole()
    assert loaded() == before
    assert not [each for each in store.remote.log(asked) if each["route"].startswith("store.")]


@pytest.mark.claim("S283")
def test_conditions_hold_for_a_file_that_nothing_has_read(store: Emulator, tmp_path: Path) -> None:
    with served(store.env, "--proxy", home=tmp_path) as first:
        etag = get(first, BIG, headers={"Range": "bytes=0-0"}).headers["etag"]
    by_id = f"/id/{store.asset('big.bin')}"
    with served(store.env, "--proxy", home=tmp_path) as server:
        assert get(server, by_id, headers={"If-None-Match": etag}).status_code == 304
        assert get(server, by_id, "?proxy=no").status_code == 302
    with served(store.env, "--proxy", home=tmp_path) as server:
        assert get(server, BIG, headers={"If-None-Match": etag}).status_code == 304
        assert get(server, BIG, "?proxy=no").status_code == 302


def test_a_cache_of_an_earlier_server_is_used(store: Emulator, tmp_path: Path) -> None:
    cache = ("--cache-dir", str(tmp_path / "cache"))
    with served(store.env, "--proxy", *cache, home=tmp_path) as server:
        assert get(server, BIG).content == DATA
    with served(store.env, "--proxy", *cache, home=tmp_path) as server:
        wait_until(lambda: get(server, "/healthz").ok, 10, "it answers")
        before = since(store)
        assert get(server, BIG).content == DATA
        told = [request["route"] for request in store.remote.log(before)]
        assert not {"object", "sign"} & set(told), told


@pytest.mark.claim("S284")
def test_documents_hold_addresses(store: Emulator, server: Served) -> None:
    catalog = get(server, "/stac/catalog.json")
    assert catalog.headers["content-type"] == "application/json"
    addresses = [link["href"] for link in catalog.json()["links"]]
    assert len(addresses) > 3
    assert all(address.startswith(server.address + "stac/") for address in addresses)
    assert all(address.isascii() and " " not in address for address in addresses)
    assert any("%20" in address for address in addresses)
    collections = [requests.get(a, timeout=LONG_S).json() for a in addresses if "collection" in a]
    items = [link["href"] for c in collections for link in c["links"] if link["rel"] == "item"]
    item = requests.get(items[0], timeout=LONG_S).json()
    files = [asset["href"] for asset in item["assets"].values()]
    assert files
    for address in files:
        assert requests.get(address, allow_redirects=False, timeout=LONG_S).status_code == 302
    again = get(server, "/stac/catalog.json", headers={"If-None-Match": catalog.headers["etag"]})
    assert again.status_code == 304
    outlines = get(server, "/tags/köln 1/footprints.geojson")
    assert outlines.headers["content-type"] == "application/geo+json"
    part = get(server, "/tags/köln 1/footprints.geojson", headers={"Range": "bytes=0-0"})
    assert (part.status_code, part.content) == (206, b"{")
    assert get(server, "/status.json").json()["assets"] > 5
    assert get(server, "/.up42fs/status.json").json()["pid"] == server.process.pid


def test_directories_for_people_and_programs(server: Served) -> None:
    page = get(server, "/tags/köln 1/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert '<a href="/tags/k%C3%B6ln%201/big.bin">big.bin</a>' in page.text
    told = get(server, "/tags/köln 1", headers={"Accept": "application/json"}).json()
    assert told["path"] == "/tags/köln 1"
    entry = next(entry for entry in told["entries"] if entry["name"] == "big.bin")
    assert (entry["type"], entry["size"]) == ("file", SIZE)
    assert unquote(urlsplit(entry["href"]).path) == "/tags/köln 1/big.bin"
    home = get(server, "/")
    assert "<html" in home.text
    assert "script-src 'self'" in home.headers["content-security-policy"]
    assert {e["name"] for e in get(server, "/", "?json").json()["entries"]} >= {"orders", "stac"}


def test_metrics_and_health(server: Served) -> None:
    assert get(server, "/healthz").text == "ok\n"
    metrics = get(server, "/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "up42fs_serve_requests_total" in metrics.text
    assert "up42fs_store_requests_total" in metrics.text


def test_what_cannot_be_had_says_why(server: Served) -> None:
    for path, status, words in (
        ("/absent", 404, "there is no absent"),
        (BIG + "/", 404, "it is a file"),
        (BIG + "/x", 404, "is a file"),
        ("/.up42fs/refresh", 404, "on a mount only"),
    ):
        answer = get(server, path)
        assert (answer.status_code, answer.headers["cache-control"]) == (status, "no-store"), path
        assert words in answer.text


@pytest.mark.parametrize("path", ["/../etc/passwd", "/assets/..%2f..%2fetc", "/%00", "/%ff", "/%"])
def test_oddities_in_the_path(server: Served, path: str) -> None:
    told = raw(server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert told.split()[1] in (b"400", b"404"), told


def raw(server: Served, request: str | bytes) -> bytes:
    """Send bytes; return all that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), LONG_S) as connection:
        connection.sendall(request.encode() if isinstance(request, str) else request)
        told = b""
        while piece := connection.recv(1 << 16):
            told += piece
        return told


def test_requests_that_are_none(server: Served) -> None:
    assert raw(
        server, "GET http://127.0.0.1/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    for request in (
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00" * 20,
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 100_000,
    ):
        assert raw(server, request).split()[1][:1] in (b"4", b"5")
    upgrade = (
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\n"
        "Connection: close, Upgrade\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    )
    assert raw(server, upgrade).split()[1] == b"200"
    socket_request = (
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        "Connection: close, Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert raw(server, socket_request).split()[1] == b"200"  # no upgrade
    for body in ("Content-Length: 5", "Transfer-Encoding: chunked"):
        told = raw(server, f"GET /healthz HTTP/1.1\r\nHost: localhost\r\n{body}\r\n\r\n")
        assert told.split()[1] == b"413"
    # It still answers.
    assert get(server, "/healthz").ok


@pytest.mark.claim("S282")
def test_other_names_and_other_sites_are_refused(server: Served) -> None:
    assert get(server, BIG, headers={"Host": "evil.example.org"}).status_code == 403
    assert get(server, BIG, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    answer = get(server, BIG, headers={"Origin": "https://evil.example.org"})
    assert "access-control-allow-origin" not in answer.headers
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        told = requests.request(method, server.url(BIG), timeout=LONG_S)
        assert (told.status_code, told.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.claim("S282")
def test_pages_of_a_listed_origin_get_bytes(store: Emulator, tmp_path: Path) -> None:
    origin = {"Origin": "https://maps.example.org"}
    arguments = ("--cors", "https://maps.example.org", "--host", "data.example.org")
    with served(store.env, *arguments, home=tmp_path) as server:
        preflight = requests.options(
            server.url(BIG),
            headers=origin
            | {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"},
            timeout=LONG_S,
        )
        assert preflight.status_code == 204
        assert "Range" in preflight.headers["access-control-allow-headers"]
        # No redirect: the object store lets no page read.
        part = get(server, BIG, headers=origin | {"Range": "bytes=0-9"})
        assert (part.status_code, part.content) == (206, DATA[:10])
        assert part.headers["access-control-allow-origin"] == origin["Origin"]
        assert "Content-Range" in part.headers["access-control-expose-headers"]
        other = get(server, BIG, headers={"Origin": "https://evil.example.org"})
        assert "access-control-allow-origin" not in other.headers
        named = get(server, "/stac/catalog.json", headers={"Host": "data.example.org"})
        assert named.json()["links"][0]["href"] == "http://data.example.org/stac/catalog.json"


@pytest.mark.claim("S285")
def test_no_secret_is_logged(store: Emulator, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    arguments = ("--token-file", str(token_file), "--log-level", "debug")
    with served(store.env, *arguments, home=tmp_path) as server:
        token = token_file.read_text().strip()
        assert token_file.stat().st_mode & 0o777 == 0o600
        assert get(server, BIG).status_code == 401
        assert get(server, "/healthz").ok
        assert get(server, "/metrics").status_code == 401
        for answer in (
            get(server, BIG, f"?token={token}", headers={"Authorization": f"Bearer {token}"}),
            get(server, BIG, auth=("me", token)),
            get(server, f"/~{token}{BIG}"),
        ):
            assert answer.status_code == 302
        link = answer.headers["location"]
        document = get(server, f"/~{token}/stac/catalog.json").json()
        below = f"{server.address}~{token}/stac/"
        assert all(each["href"].startswith(below) for each in document["links"])
        log = server.text()
        assert "GET /~<redacted>/assets/big.bin 302" in log
        assert "?<redacted>" in log
        for secret in (
            token,
            urlsplit(link).query.rpartition("Signature=")[2],
            link,
            store.env["UP42_PASSWORD"] + '"',
        ):
            assert secret not in log


def test_a_log_line_is_one_line(server: Served) -> None:
    raw(server, "GET /a%0Ab%1b[31m HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    raw(server, "GET /x\x7f HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert "\x1b" not in server.text()
    assert "GET /a%0Ab%1b[31m 404" in server.text()


@pytest.mark.claim("S286")
def test_a_slow_head_is_not_waited_for(store: Emulator, tmp_path: Path) -> None:
    with served(store.env | {"UP42FS_HURRY": "10"}, home=tmp_path) as server:
        connections = [
            socket.create_connection(("127.0.0.1", server.port), LONG_S) for _ in range(50)
        ]
        began_s = time.monotonic()
        for connection in connections:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        while time.monotonic() - began_s < 1.5:  # each gets a little at a time
            for connection in connections:
                connection.sendall(b"X: y\r\n")
            assert get(server, "/healthz").ok
            time.sleep(0.2)
        for connection in connections:
            assert closes(connection)
        assert time.monotonic() - began_s < 10


def drain(connection: socket.socket) -> None:
    while connection.recv(1 << 16):
        pass


def closes(connection: socket.socket) -> bool:
    try:
        with connection:
            return not connection.recv(1)
    except ConnectionError:
        return True


@pytest.mark.claim("S286")
def test_a_client_that_reads_nothing_is_dropped(store: Emulator, tmp_path: Path) -> None:
    with served(store.env | {"UP42FS_HURRY": "15"}, "--proxy", home=tmp_path) as server:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        request = "GET /assets/big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.sendall(request.encode())
        wait_until(lambda: " 200 " in server.text(), LONG_S, "the answer ends")
        connection.settimeout(LONG_S)
        with connection, pytest.raises(ConnectionError):
            drain(connection)
        assert get(server, "/healthz").ok


@pytest.mark.claim("S286")
def test_more_connections_than_there_is_room_for(store: Emulator, tmp_path: Path) -> None:
    limited = ("prlimit", "--nofile=200:200")
    assert run(*limited, "true").returncode == 0

    def limit() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))

    with served(store.env, home=tmp_path, preexec_fn=limit) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port), LONG_S) for _ in range(150)]
        for _ in range(5):
            assert get(server, "/healthz").ok
            assert get(server, BIG).status_code == 302
        for connection in idle:
            connection.close()


@pytest.mark.claim("S286")
def test_nothing_is_fetched_for_a_client_that_left(tmp_path: Path) -> None:
    with emulator("--synthetic", "1,1,1") as store:
        store.remote.storage("add_asset", name="huge.bin", size=2_000_000_000, seed=SEED)
        with served(store.env, "--proxy", home=tmp_path) as server:
            with socket.create_connection(("127.0.0.1", server.port), LONG_S) as connection:
                request = "GET /assets/huge.bin HTTP/1.1\r\nHost: localhost\r\n\r\n"
                connection.sendall(request.encode())
                assert connection.recv(1 << 20)

            def rests() -> bool:
                running = get(server, "/status.json").json()
                return not running["open"]["open_files"] and not any(
                    running["store"][name] for name in ("requests_running", "fetches_ahead")
                )

            wait_until(rests, LONG_S, "the fetches end")
            fetched = get(server, "/status.json").json()["counters"]["store.bytes_fetched"]
            assert fetched < 400_000_000


def test_a_body_that_fails_is_cut_short(tmp_path: Path) -> None:
    """The connection is closed before the announced end: no client takes a part for the whole."""
    with emulator("--synthetic", "1,1,1") as store:
        store.remote.storage("add_asset", name="big.bin", size=60_000_000, seed=SEED)
        with served(
            store.env | {"UP42FS_HURRY": "10"}, "--proxy", "--cache-size", "0", home=tmp_path
        ) as server:
            answer = requests.get(server.url(BIG), stream=True, timeout=LONG_S)
            pieces = answer.iter_content(1 << 16)
            assert next(pieces)
            store.process.kill()
            with pytest.raises(requests.RequestException):
                for _ in pieces:
                    pass
            assert get(server, "/healthz").ok
            after = get(server, BIG, headers={"Range": "bytes=59000000-"})
            assert after.status_code in (502, 503, 504), after.text


@pytest.mark.claim("S287")
def test_a_budget_is_kept_by_proxying(store: Emulator, tmp_path: Path) -> None:
    with served(
        store.env | {"XDG_STATE_HOME": str(tmp_path / "state")},
        *("--max-egress", "2M/day"),
        home=tmp_path,
    ) as server:
        part = get(server, BIG, headers={"Range": "bytes=0-999"})
        assert (part.status_code, part.content) == (206, DATA[:1000])
        with pytest.raises(requests.RequestException):
            get(server, BIG)  # what the budget allows, then the connection is closed
        refused = get(server, BIG, headers={"Range": "bytes=3900000-4000000"})
        assert refused.status_code == 403
        assert "max_egress" in refused.text


def test_answers_that_run_are_finished_at_the_end(store: Emulator, tmp_path: Path) -> None:
    with served(store.env, "--proxy", home=tmp_path) as server:
        answer = requests.get(server.url(BIG), stream=True, timeout=LONG_S)
        pieces = answer.iter_content(1 << 18)
        first = next(pieces)
        server.process.terminate()
        rest = b"".join(pieces)
        assert first + rest == DATA


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--listen", "0.0.0.0:0"), "can be reached from other machines"),
        (("--listen", "[::]:0"), "can be reached from other machines"),
        (("--listen", "0.0.0.0:0", "--token-file", "T"), "can be reached from other machines"),
        (("--tls-cert", "x.pem"), "belong together"),
        (("--tls-cert", "absent.pem", "--tls-key", "absent.pem"), "cannot be used"),
        (("--listen", "nonsense:port"), "say HOST:PORT"),
        (("--listen", "192.0.2.1:80", "--behind-proxy"), "cannot listen at 192.0.2.1:80"),
    ],
)
@pytest.mark.claim("S281")
def test_what_is_not_safe_is_refused(
    store: Emulator, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    listen = () if "--listen" in arguments else ("--listen", "127.0.0.1:0")
    done = run(
        *(*UP42FS, "serve"),
        *(*listen, *(w.replace("T", str(tmp_path / "t")) if w == "T" else w for w in arguments)),
        *("--cache-dir", str(tmp_path / "cache")),
        env=store.env,
        timeout_s=30,
    )
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert done.stdout == ""


def test_a_taken_port_is_said(store: Emulator, server: Served, tmp_path: Path) -> None:
    done = run(
        *(*UP42FS, "serve", "--listen", f"127.0.0.1:{server.port}"),
        *("--cache-dir", str(tmp_path)),
        env=store.env,
    )
    assert done.returncode == 1
    assert "Address already in use" in done.stderr


def test_tokens_that_are_none(store: Emulator, tmp_path: Path) -> None:
    for content, mode, words in (
        ("short", 0o600, "16 or more"),
        ("x" * 20 + "/y", 0o600, "without /"),
        ("x" * 40, 0o644, "chmod 600"),
    ):
        file = tmp_path / "token"
        file.write_text(content)
        file.chmod(mode)
        done = run(*UP42FS, "serve", "--listen", "127.0.0.1:0", "--token-file", file, env=store.env)
        assert done.returncode == 1
        assert words in done.stderr
        assert content not in done.stderr


def test_what_page_shows_is_told(store: Emulator, server: Served) -> None:
    get(server, BIG, "?proxy")
    about = get(server, "/-/about").json()
    assert about["base"] == server.address.rstrip("/")
    assert about["assets"] > 5
    info = get(server, "/-/info" + BIG).json()
    assert info["size"] == SIZE
    assert info["cached"] == SIZE
    assert info["attributes"]["up42.name"] == "big.bin"
    assert get(server, "/-/cached/assets").json()["big.bin"] == SIZE
    assert get(server, "/-/info/absent").status_code == 404
    assert get(server, "/-/page.js").headers["content-type"] == "text/javascript"
    assert get(server, "/-/absent.js").status_code == 404
    assert "Signature" not in json.dumps([about, info])
