"""Addresses in every spelling: which hosts are near, whatever they are called."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.api.links import is_safe_link
from up42fs.net.hosts import is_loopback, is_near, may_connect, numeric

PUBLIC = "https://api.up42.com"
NEAR = [
    "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001",
    "127.0.0.1.", "%31%32%37.0.0.1", "127%2e0%2e0%2e1", "localhost.", "LOCALHOST", "a.localhost.",
    "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[::127.0.0.1]",
    "[2002:7f00:1::]", "0", "0x0", "0.0.0.0", "169.254.169.254", "2852039166", "0xa9fea9fe",
    "169.254.43518", "0251.0376.0251.0376", "[fe80::1]", "[fe80::1%25eth0]", "[::ffff:a9fe:a9fe]",
    "[fd00:ec2::254]", "[fd20:ce::254]", "100.100.100.200", "192.0.0.192", "168.63.129.16",
    "224.0.0.1", "[ff02::1]", "[::]", "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
]  # fmt: skip
FAR = ["storage.googleapis.com", "storage.googleapis.com.", "142.250.1.1", "[2a00:1450::1]",
       "10.1.2.3", "store.internal", "127.example.com", "0x7f.example.com"]  # fmt: skip


@pytest.mark.claim("S82")
@pytest.mark.parametrize("host", NEAR)
def test_no_spelling_of_a_near_address_passes(host: str) -> None:
    assert is_near(host)
    assert not is_safe_link(f"https://{host}/latest/meta-data", PUBLIC)
    assert not is_safe_link(f"https://{host}:8443/latest/meta-data", PUBLIC)


@pytest.mark.parametrize("host", FAR)
def test_stores_pass(host: str) -> None:
    assert not is_near(host)
    assert is_safe_link(f"https://{host}/object?Signature=x", PUBLIC)


@pytest.mark.parametrize("host", ["a%2fb", "a%40b", "a%00b", "%5b::1%5d%2f", "a%25b", "a%20b"])
def test_hosts_that_programs_read_differently_do_not_pass(host: str) -> None:
    assert not is_safe_link(f"https://{host}/object", PUBLIC)


def test_only_the_loopback_is_open_to_an_api_on_this_machine() -> None:
    local = "http://127.0.0.1:8080"
    assert is_safe_link("http://127.1:9/a", local)
    assert is_safe_link("https://store.example/a", local)
    assert not is_safe_link("https://2852039166/a", local)
    assert may_connect("127.0.0.2", local=True)
    assert not may_connect("127.0.0.2", local=False)
    assert not may_connect("fe80::1%eth0", local=True)


@given(st.lists(st.integers(0, 2**33), min_size=1, max_size=5), st.data())
def test_numbers_are_read_as_c_reads_them(values: list[int], data: st.DataObject) -> None:
    forms = st.sampled_from(["{:d}", "0x{:x}", "0X{:X}", "0{:o}"])
    text = ".".join(data.draw(forms).format(value) for value in values)
    try:
        expected = ipaddress.IPv4Address(socket.inet_aton(text))
    except OSError:
        assert numeric(text) is None
        return
    found = numeric(text)
    # Python takes no leading zeros in four plain parts, C takes them as octal: so do we.
    assert found == expected


@given(st.ip_addresses(v=4))
def test_every_wrapping_is_judged_like_the_address(address: ipaddress.IPv4Address) -> None:
    plain = may_connect(str(address), local=False)
    number = int(address)
    wrapped = [
        f"{prefix}{number >> 16:x}:{number & 0xFFFF:x}"
        for prefix in ("::ffff:", "64:ff9b::", "64:ff9b:1::", "64:ff9b:1:2:3:4:", "::ffff:0:")
    ]
    assert {may_connect(one, local=False) for one in wrapped} == {plain}
    assert is_loopback(str(number)) == address.is_loopback
