from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from up42fs.net import expiry

NOW_S = 1_700_000_000
HOST = "https://storage.googleapis.com/bucket/assets/1"


def v2(expires: object) -> str:
    return f"{HOST}?GoogleAccessId=a%40b&Expires={expires}&Signature=c2ln"


def v4(signed: str, span: object) -> str:
    return f"{HOST}?X-Goog-Algorithm=GOOG4&X-Goog-Date={signed}&X-Goog-Expires={span}"


def stamp(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y%m%dT%H%M%SZ")


@given(life_s=st.integers(0, 7 * 86400), skew_s=st.integers(-(10**8), 10**8))
@pytest.mark.claim("S78")
def test_both_signing_versions_agree_whatever_this_machines_clock(life_s: int, skew_s: int) -> None:
    server_s = NOW_S + skew_s
    assert expiry.lifetime_s(v2(server_s + life_s), server_s) == life_s
    assert expiry.lifetime_s(v4(stamp(server_s), life_s), server_s) == life_s


def test_a_v4_link_signed_a_while_ago_has_that_much_less_to_live() -> None:
    assert expiry.lifetime_s(v4(stamp(NOW_S - 100), 300), NOW_S) == 200


def test_names_of_parameters_are_read_in_any_case() -> None:
    assert expiry.lifetime_s(f"{HOST}?expires={NOW_S + 30}", NOW_S) == 30


@pytest.mark.parametrize(
    ("url", "server_s", "life_s"),
    [
        (HOST, NOW_S, expiry.DEFAULT_LIFETIME_S),
        (v2(NOW_S + 30), None, expiry.DEFAULT_LIFETIME_S),
        (v4(stamp(NOW_S), 30), None, 30),
        (v4(stamp(NOW_S), 900), None, expiry.DEFAULT_LIFETIME_S),
        (v4("yesterday", 30), NOW_S, 30),
        (v2("soon"), NOW_S, expiry.DEFAULT_LIFETIME_S),
        (v2("-5"), NOW_S, expiry.DEFAULT_LIFETIME_S),
        (v2("9" * 400), NOW_S, expiry.DEFAULT_LIFETIME_S),
        (v2(NOW_S - 1), NOW_S, 0),
        (v2(NOW_S + 10**9), NOW_S, expiry.LONGEST_S),
    ],
)
def test_what_a_link_does_not_say(url: str, server_s: float | None, life_s: float) -> None:
    assert expiry.lifetime_s(url, server_s) == life_s


@given(st.text())
def test_any_query_gives_a_bounded_lifetime(text: str) -> None:
    for url in (v2(quote(text)), v4(quote(text), quote(text)), f"{HOST}?{quote(text)}"):
        for server_s in (None, float(NOW_S)):
            assert expiry.SHORTEST_S <= expiry.lifetime_s(url, server_s) <= expiry.LONGEST_S


@given(st.floats(0, 7 * 86400))
def test_renewal_comes_before_the_end(life_s: float) -> None:
    ahead_s = expiry.renew_ahead_s(life_s)
    assert 0 <= ahead_s <= min(60.0, 0.2 * life_s)


def test_a_five_minute_link_is_renewed_a_minute_ahead_and_a_short_one_at_a_fifth() -> None:
    assert expiry.renew_ahead_s(300) == 60
    assert expiry.renew_ahead_s(10) == 2


@pytest.mark.parametrize(
    ("header", "unix_s"),
    [
        ("Tue, 14 Nov 2023 22:13:20 GMT", NOW_S),
        (None, None),
        ("", None),
        ("yesterday", None),
        ("Tue, 99 Nov 2023 22:13:20 GMT", None),
    ],
)
def test_the_servers_clock_is_read_off_its_date(header: str | None, unix_s: float | None) -> None:
    assert expiry.server_time(header) == unix_s


@given(st.text())
def test_no_date_header_raises(header: str) -> None:
    found = expiry.server_time(header)
    assert found is None or isinstance(found, float)
