"""Which proxy a URL goes through: as curl has it, in one place."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.errors import ConfigurationError
from up42fs.net.proxies import parse_proxy, route_of

GOOD = "http://proxy.example:3128"
STORE = "https://storage.googleapis.com/a?Signature=x"


def proxy(url: str = STORE, **environ: str) -> str | None:
    found = route_of(url, environ).proxy
    return found.url if found else None


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"HTTPS_PROXY": GOOD}, GOOD),
        ({"https_proxy": GOOD, "HTTPS_PROXY": "http://other"}, GOOD),
        ({"https_proxy": "", "HTTPS_PROXY": GOOD}, GOOD),
        ({"ALL_PROXY": GOOD}, GOOD),
        ({"all_proxy": GOOD, "ALL_PROXY": "http://other"}, GOOD),
        ({"http_proxy": GOOD}, None),
        ({"all_proxy": "socks://127.0.0.1:1080/", "https_proxy": GOOD}, GOOD),
        ({"ALL_PROXY": "nonsense://", "HTTPS_PROXY": GOOD}, GOOD),
        ({"HTTPS_PROXY": "proxy.example"}, "http://proxy.example:1080"),
        ({"HTTPS_PROXY": "https://proxy.example"}, "https://proxy.example:443"),
        ({"ALL_PROXY": "socks5h://me:word@proxy.example"}, "socks5h://proxy.example:1080"),
        ({"ALL_PROXY": "SOCKS5://proxy.example:9050"}, "socks5://proxy.example:9050"),
        ({"HTTPS_PROXY": "http://[2001:db8::1]:3128"}, "http://[2001:db8::1]:3128"),
        ({"HTTPS_PROXY": "[2001:db8::1]:3128"}, "http://[2001:db8::1]:3128"),
    ],
)
def test_the_variables_in_curls_order(environ: dict[str, str], expected: str | None) -> None:
    assert proxy(**environ) == expected


@pytest.mark.parametrize(
    ("excluded", "host", "is_direct"),
    [
        ("*", "a.example", True),
        ("a.example", "a.example", True),
        ("a.example", "b.a.example", True),
        (".a.example", "a.example", True),
        ("a.example", "ba.example", False),
        ("A.Example.", "a.example", True),
        ("a.example", "a.example.", True),
        ("x, a.example", "a.example", True),
        ("x a.example", "a.example", True),
        (",,a.example,", "a.example", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3/8", "10.9.9.9", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("1.2.3", "10.1.2.3", False),
        ("[2001:db8::1]", "[2001:db8::1]", True),
        ("2001:db8::1", "[2001:db8:0::1]", True),
        ("2001:db8::/32", "[2001:db8::7]", True),
        ("[2001:db8::]/32", "[2001:db8::7]", True),
        ("2001:db8::/32", "[2001:db9::7]", False),
        ("a.example:443", "a.example", True),
        ("a.example:8443", "a.example", False),
        ("[2001:db8::1]:443", "[2001:db8::1]", True),
        ("10.0.0.0/x", "10.1.2.3", False),
        ("", "a.example", False),
        (".", "a.example", False),
    ],
)
def test_no_proxy(excluded: str, host: str, is_direct: bool) -> None:
    assert (proxy(f"https://{host}/x", HTTPS_PROXY=GOOD, NO_PROXY=excluded) is None) is is_direct


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.8.9.1", "[::1]", "localhost", "LOCALHOST.", "127.1", "[::ffff:7f00:1]"],
)
def test_this_machine_is_asked_directly(host: str) -> None:
    assert proxy(f"https://{host}:8443/x", HTTPS_PROXY=GOOD, ALL_PROXY=GOOD) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("socks4://me:hunter2@p:1", "SOCKS"),
        ("socks4a://me:hunter2@p:1", "SOCKS"),
        ("socks://me:hunter2@p", "socks5h://HOST:PORT"),
        ("gopher://me:hunter2@p", "not a usable address"),
        ("http://me:hunter2@p:99999", "not a usable address"),
        ("http://me:hunter2@[::1", "not a usable address"),
        ("http://", "not a usable address"),
    ],
)
def test_what_is_chosen_and_cannot_be_used_is_told_without_its_password(
    value: str, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        proxy(HTTPS_PROXY=value)
    assert "hunter2" not in str(caught.value)
    assert proxy("https://127.0.0.1/", HTTPS_PROXY=value) is None


def test_logins_are_decoded_and_not_shown() -> None:
    found = parse_proxy("http://me%40work:pa%3Ass@proxy.example:3128", "HTTPS_PROXY")
    assert found.login == ("me@work", "pa:ss")
    assert "pa:ss" not in repr(found)
    assert "me" not in found.url.partition("//")[2].partition("proxy")[0]


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_in_the_variables_is_an_answer_or_a_configuration_error(
    value: str, excluded: str
) -> None:
    with suppress(ConfigurationError):
        proxy(HTTPS_PROXY=value, NO_PROXY=excluded)
