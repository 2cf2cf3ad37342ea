"""Other users of the machine, other machines, TLS: who is answered, and what they get."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from harness import (
    Emulator,
    Served,
    check,
    emulator,
    interpreter_for_others,
    run,
    served,
    wait_until,
)

from up42fs.emulator.content import pattern_bytes
from up42fs.serve import peers

SIZE, SEED = 400_000, 5
DATA = pattern_bytes(SEED, 0, SIZE)
BIG = "/assets/big.bin"
LONG_S = 20
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="becomes another user: needs root")
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.fixture(scope="module")
def store() -> Iterator[Emulator]:
    with emulator() as running:
        running.remote.storage("add_asset", name="big.bin", size=SIZE, seed=SEED)
        yield running


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    home = tmp_path_factory.mktemp("tls")
    check(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        *("-keyout", home / "key.pem", "-out", home / "cert.pem"),
    )
    return home / "cert.pem", home / "key.pem"


def as_nobody(server: Served, path: str, *arguments: str) -> tuple[int, str, str]:
    """Status, Location and body that a program of the user nobody gets."""
    told = check(
        *(*NOBODY, "curl", "-s", "-w", "\n%{http_code} %{redirect_url}", *arguments),
        server.address.rstrip("/") + path,
    )
    body, _, last = told.rpartition("\n")
    status, _, location = last.partition(" ")
    return int(status), location, body


@AS_ROOT
@pytest.mark.claim("S281")
def test_other_users_of_the_machine_get_nothing(store: Emulator, tmp_path: Path) -> None:
    with served(store.env, home=tmp_path) as server:
        for path in (BIG, "/", "/status.json", "/metrics", "/-/about", "/stac/catalog.json"):
            status, location, body = as_nobody(server, path)
            assert (status, location) == (403, ""), path
            assert "another user" in body
        assert as_nobody(server, "/healthz")[0] == 200
        assert requests.get(server.url(BIG), allow_redirects=False, timeout=LONG_S).ok


@AS_ROOT
def test_other_users_who_are_let_in_get_bytes_and_no_links(store: Emulator, tmp_path: Path) -> None:
    with served(store.env, "--allow-other", home=tmp_path) as server:
        status, location, body = as_nobody(server, BIG, "-r", "0-0", "-o", "/dev/null")
        assert (status, location) == (206, "")
        status, location, _ = as_nobody(server, BIG + "?proxy=no", "-o", "/dev/null")
        assert (status, location) == (200, "")
        status, _, body = as_nobody(server, "/status.json")
        assert status == 200
        assert store.env["UP42_USERNAME"] not in body
        status, _, body = as_nobody(server, "/-/about")
        assert status == 200
        assert store.env["UP42_USERNAME"] not in body
    shared = ("--allow-other", "--share-links")
    with served(store.env, *shared, home=tmp_path) as server:
        assert as_nobody(server, BIG)[0] == 302


@AS_ROOT
@pytest.mark.claim("S281")
def test_the_token_lets_other_users_in(store: Emulator, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    with served(store.env, "--token-file", str(token_file), home=tmp_path) as server:
        token = token_file.read_text().strip()
        assert as_nobody(server, BIG)[0] == 401
        assert as_nobody(server, f"/~{token}{BIG}")[0] == 302
        assert as_nobody(server, BIG, "-H", f"Authorization: Bearer {token}")[0] == 302


@AS_ROOT
@pytest.mark.claim("S281")
def test_a_server_of_another_user_answers_that_user_and_root(
    store: Emulator, tmp_path: Path
) -> None:
    interpreter = interpreter_for_others()
    if interpreter is None:
        pytest.skip("no Python that other users may run")
    paths = [p for p in sys.path if p and "site-packages" in p]
    paths.append(str(Path(peers.__file__).parents[2]))
    program = (
        "import socket, sys; from up42fs.serve.peers import uid_of\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "print(server.getsockname()[1], flush=True)\n"
        "for _ in range(2):\n"
        "    client, _ = server.accept()\n"
        "    print(uid_of(client.getpeername(), client.getsockname()), flush=True)\n"
        "    client.recv(1)\n"
    )
    process = subprocess.Popen(
        [*NOBODY, interpreter, "-c", program],
        env={"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline() or pytest.skip("up42fs cannot be read by others"))
        with socket.create_connection(("127.0.0.1", port)):
            assert process.stdout.readline() == "0\n"
        run(*NOBODY, "curl", "-s", "-m", "2", f"http://127.0.0.1:{port}/")
        assert process.stdout.readline() == "65534\n"
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_kernel_tells_whose_connection_it_is(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        client = socket.create_connection(server.getsockname()[:2])
        accepted, _ = server.accept()
        ends = accepted.getpeername()[:2], accepted.getsockname()[:2]
        assert peers.uid_of(*ends) == peers._read(*ends) == os.getuid()
        # Nobody's: the kernel says 0 now, which must not pass for root.
        client.close()
        wait_until(lambda: peers.uid_of(*ends) is None, 5, "the end is told")
        accepted.close()
    assert peers.uid_of((host, 1), (host, 2)) is None


@pytest.mark.claim("S281")
def test_other_machines_need_the_token_and_tls(
    store: Emulator, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    cert, key = certificate
    token_file = tmp_path / "token"
    arguments = ("--token-file", token_file, "--tls-cert", cert, "--tls-key", key)
    with served(store.env, *map(str, arguments), home=tmp_path, listen="0.0.0.0:0") as server:
        address = f"https://127.0.0.1:{server.port}"
        token = token_file.read_text().strip()
        assert requests.get(address + BIG, verify=str(cert), timeout=LONG_S).status_code == 401
        below = f"{address}/~{token}"
        whole = requests.get(f"{below}{BIG}?proxy", verify=str(cert), timeout=LONG_S)
        assert whole.content == DATA
        catalog = requests.get(f"{below}/stac/catalog.json", verify=str(cert), timeout=LONG_S)
        assert catalog.json()["links"][0]["href"] == f"{below}/stac/catalog.json"
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://127.0.0.1:{server.port}{BIG}", timeout=LONG_S)
        assert requests.get(address + "/healthz", verify=str(cert), timeout=LONG_S).text == "ok\n"


@pytest.mark.claim("S286")
def test_a_handshake_that_stalls_is_dropped(
    store: Emulator, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    cert, key = certificate
    arguments = ("--tls-cert", str(cert), "--tls-key", str(key))
    with served(store.env | {"UP42FS_HURRY": "10"}, *arguments, home=tmp_path) as server:
        silent = socket.create_connection(("127.0.0.1", server.port), LONG_S)
        began_s = time.monotonic()
        context = ssl.create_default_context(cafile=cert)
        with (
            socket.create_connection(("127.0.0.1", server.port), LONG_S) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            assert connection.selected_alpn_protocol() in (None, "http/1.1")
            assert ends(connection)  # idle
        assert ends(silent)
        assert time.monotonic() - began_s < 15
        silent.close()


def ends(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1)
    except TimeoutError:
        return False
    except OSError:
        return True


def test_behind_a_proxy_its_headers_are_believed(store: Emulator, tmp_path: Path) -> None:
    told = {
        "Host": "data.example.org",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Prefix": "/up42/",
    }
    arguments = ("--behind-proxy", "--host", "data.example.org")
    with served(store.env, *arguments, home=tmp_path, listen="0.0.0.0:0") as server:
        url = f"http://127.0.0.1:{server.port}/stac/catalog.json"
        links = requests.get(url, headers=told, timeout=LONG_S).json()["links"]
        assert links[0]["href"] == "https://data.example.org/up42/stac/catalog.json"
    with served(store.env, "--host", "data.example.org", home=tmp_path) as server:
        url = server.url("/stac/catalog.json")
        links = requests.get(url, headers=told, timeout=LONG_S).json()["links"]
        assert links[0]["href"] == "http://data.example.org/stac/catalog.json"
