"""What `up42fs serve` decides without I/O: addresses, conditions, documents, who may ask what."""

from __future__ import annotations

import base64
import json
import stat
from urllib.parse import quote, unquote, urljoin, urlsplit

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from up42fs.errors import InvalidArgument, UsageError
from up42fs.fs.tree.nodes import Attributes
from up42fs.serve.addresses import (
    Listen,
    decoded,
    encoded,
    is_loopback,
    is_ours,
    joined,
    parse_listen,
)
from up42fs.serve.conditions import Representation, Verdict, http_date, judge
from up42fs.serve.documents import absolute, with_addresses
from up42fs.serve.gate import AdmittedRequest, Peer, Refusal, Rules, admit, cors_headers, preflight
from up42fs.serve.pages import as_html, as_json, wants_json

OWNER, OTHER = 1000, 1001
TOKEN = "a-token-of-sufficient-length"
NAMES = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/"), min_size=1, max_size=30
).filter(lambda name: name not in (".", ".."))


# -- addresses


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8042", "127.0.0.1", 8042),
        ("8042", "127.0.0.1", 8042),
        (":0", "127.0.0.1", 0),
        ("[::1]:80", "::1", 80),
        ("::1", "::1", 8042),
        ("0.0.0.0", "0.0.0.0", 8042),
        ("localhost:1", "localhost", 1),
    ],
)
def test_an_address_to_listen_at(text: str, host: str, port: int) -> None:
    assert parse_listen(text) == Listen(host, port)


@pytest.mark.parametrize("text", ["", "a:b", "h:99999", "http://h:1", "u@h:1", "[::1", "a b:1"])
def test_no_address_to_listen_at(text: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        parse_listen(text)


def test_what_is_loopback() -> None:
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "::ffff:127.0.0.1"):
        assert is_loopback(host), host
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "127.0.0.1.evil.org", "2130706433"):
        assert not is_loopback(host), host


@pytest.mark.parametrize(
    ("host", "is_local", "expected"),
    [
        ("127.0.0.1:8042", True, True),
        ("localhost:1", True, True),
        ("LOCALHOST.", True, True),
        ("[::1]:8042", True, True),
        ("maps.example.org", True, True),
        ("maps.example.org:443", False, True),
        ("10.1.2.3:8042", True, False),
        ("10.1.2.3:8042", False, True),
        ("evil.example.org", True, False),
        ("evil.example.org", False, False),
        ("127.0.0.1.evil.org", True, False),
        ("localhost.evil.org", True, False),
        ("evil.org@127.0.0.1", True, False),
        ("127.0.0.1, evil.org", True, False),
        ("", True, False),
    ],
)
def test_names_of_this_server(host: str, is_local: bool, expected: bool) -> None:
    assert is_ours(host, ("maps.example.org",), is_local=is_local) is expected


@given(st.lists(NAMES, max_size=5))
def test_a_path_survives_its_address(names: list[str]) -> None:
    path = "/" + "/".join(names)
    address = joined("http://h:1/~t", path)
    assert address.isascii()
    assert not set(address) & set(' "<>\\^`{|}')
    split = urlsplit(address)
    assert (split.query, split.fragment) == ("", "")
    assert decoded(split.path.removeprefix("/~t").encode()) == path
    assert decoded(encoded(path).encode() + b"/") == path


@given(st.binary(max_size=60))
@example(b"/%2e%2e/etc/passwd")
@example(b"/..%2f..%2fetc")
@example(b"/a%2Fb")
@example(b"/%00")
@example(b"/%ff")
@example(b"//a//./b/")
@example(b"http://h/a")
@example(b"/" + b"a" * 9000)
def test_any_path_is_decoded_or_refused(raw: bytes) -> None:
    try:
        path = decoded(raw)
    except InvalidArgument:
        return
    parts = path.split("/")[1:]
    assert path.startswith("/")
    assert "\0" not in path
    assert parts == [""] or not {"", ".", ".."} & set(parts)


def test_what_leads_elsewhere_is_refused() -> None:
    for raw in (b"/..", b"/a/../b", b"/%2e%2e/x", b"/a%2fb", b"/a%00b", b"/%ff", b"x", b""):
        with pytest.raises(InvalidArgument):
            decoded(raw)


# -- conditions

MADE_S = 1_700_000_000
CONTENT = Representation(1000, '"v1"', MADE_S)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-0", Verdict(206, 0, 1)),
        ("bytes=0-999", Verdict(206, 0, 1000)),
        ("bytes=0-5000", Verdict(206, 0, 1000)),
        ("bytes=999-", Verdict(206, 999, 1000)),
        ("bytes=-1", Verdict(206, 999, 1000)),
        ("bytes=-5000", Verdict(206, 0, 1000)),
        ("Bytes = 5 - 9", Verdict(206, 5, 10)),
        ("bytes=1000-", Verdict(416)),
        ("bytes=5000-6000", Verdict(416)),
        ("bytes=-0", Verdict(416)),
        # What is no single range of bytes is ignored (RFC 9110, 14.2).
        ("bytes=5-4", Verdict(200, 0, 1000)),
        ("bytes=-", Verdict(200, 0, 1000)),
        ("bytes=0-1,5-6", Verdict(200, 0, 1000)),
        ("lines=0-1", Verdict(200, 0, 1000)),
        ("bytes=a-b", Verdict(200, 0, 1000)),
        ("bytes=\u0661-", Verdict(200, 0, 1000)),
        ("", Verdict(200, 0, 1000)),
    ],
)
@pytest.mark.claim("S283")
def test_ranges(value: str, expected: Verdict) -> None:
    assert judge({"range": value}, CONTENT) == expected
    assert judge({"range": value}, CONTENT, is_get=False) == Verdict(200, 0, 1000)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_range_lies_in_the_file(size: int, first: int, last: int) -> None:
    verdict = judge({"range": f"bytes={first}-{last}"}, Representation(size, None, 0))
    if verdict.status == 206:
        assert range(verdict.start, verdict.stop) == range(first, min(last + 1, size))
        assert verdict.start < verdict.stop
    else:
        assert verdict == (Verdict(200, 0, size) if last < first else Verdict(416))


def test_an_empty_file_has_no_range() -> None:
    assert judge({"range": "bytes=0-"}, Representation(0, None, 0)) == Verdict(416)
    assert judge({}, Representation(0, None, 0)) == Verdict(200, 0, 0)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if-none-match": '"v1"'}, 304),
        ({"if-none-match": 'W/"v1"'}, 304),
        ({"if-none-match": '"v0", "v1"'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"v2"'}, 200),
        ({"if-none-match": '"v2"', "if-modified-since": http_date(MADE_S)}, 200),
        ({"if-match": '"v1"'}, 200),
        ({"if-match": "*"}, 200),
        ({"if-match": '"v2"'}, 412),
        ({"if-match": 'W/"v1"'}, 412),
        ({"if-match": '"v2"', "if-none-match": '"v1"'}, 412),
        ({"if-modified-since": http_date(MADE_S)}, 304),
        ({"if-modified-since": http_date(MADE_S - 1)}, 200),
        ({"if-modified-since": "yesterday"}, 200),
        ({"if-unmodified-since": http_date(MADE_S - 1)}, 412),
        ({"if-unmodified-since": http_date(MADE_S)}, 200),
        ({"range": "bytes=0-1", "if-range": '"v1"'}, 206),
        ({"range": "bytes=0-1", "if-range": '"v2"'}, 200),
        ({"range": "bytes=0-1", "if-range": 'W/"v1"'}, 200),
        ({"range": "bytes=0-1", "if-range": http_date(MADE_S)}, 206),
        ({"range": "bytes=0-1", "if-range": http_date(MADE_S + 1)}, 200),
        ({"range": "bytes=0-1", "if-match": '"v2"'}, 412),
        ({"range": "bytes=0-1", "if-none-match": '"v1"'}, 304),
    ],
)
@pytest.mark.claim("S283")
def test_conditions(headers: dict[str, str], status: int) -> None:
    assert judge(headers, CONTENT).status == status


@given(
    st.dictionaries(
        st.sampled_from(["range", "if-range", "if-match", "if-none-match"]), st.text(max_size=40)
    )
)
def test_any_header_is_judged(headers: dict[str, str]) -> None:
    verdict = judge(headers, CONTENT)
    assert 0 <= verdict.start <= verdict.stop <= CONTENT.size


def test_dates_are_english() -> None:
    assert http_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert http_date(1_796_036_634) == "Mon, 30 Nov 2026 11:03:54 GMT"


# -- documents


@given(st.lists(NAMES, min_size=1, max_size=4), st.lists(NAMES, max_size=3))
@pytest.mark.claim("S284")
def test_hrefs_lead_to_the_file(below: list[str], directory: list[str]) -> None:
    """A name is written as it is, or percent-encoded whole if it holds one of `# ? ; % \\`."""
    written = [quote(n, safe="") if set("#?;%\\") & set(n) else n for n in below]
    place = "/" + "/".join(directory)
    address = absolute("./" + "/".join(written), place, "http://h:1")
    expected = "/".join([*directory, *below])
    assert unquote(urlsplit(address).path) == "/" + expected
    assert address.isascii()


def test_hrefs_upward() -> None:
    base = "https://h/~t"
    assert absolute("../../catalog.json", "/stac/a/b", base) == "https://h/~t/stac/catalog.json"
    assert absolute("../collection.json", "/stac/a b", base) == "https://h/~t/stac/collection.json"
    assert absolute("../../../x", "/stac", base) == "https://h/~t/x"
    assert absolute("https://else.where/x", "/stac", base) == "https://else.where/x"


@pytest.mark.claim("S284")
def test_documents_get_addresses() -> None:
    item = {
        "stac_version": "1.0.0",
        "links": [{"rel": "root", "href": "../catalog.json"}, {"rel": "x", "href": "https://x/"}],
        "assets": {"b 1": {"href": "./b 1 ü.tif"}, "odd": 5},
        "properties": {"href": "./left alone"},
    }
    made = json.loads(with_addresses(json.dumps(item).encode(), "/stac/c", "http://h"))
    assert made["links"][0]["href"] == "http://h/stac/catalog.json"
    assert made["links"][1]["href"] == "https://x/"
    assert made["assets"]["b 1"]["href"] == "http://h/stac/c/b%201%20%C3%BC.tif"
    assert made["properties"]["href"] == "./left alone"
    features = [{"type": "Feature", "properties": {"path": "a b.zip"}}, {"type": "Feature"}, 3]
    document = {"type": "FeatureCollection", "features": features}
    made = json.loads(with_addresses(json.dumps(document).encode(), "/orders/x", "http://h"))
    assert made["features"][0]["properties"]["href"] == "http://h/orders/x/a%20b.zip"


@given(
    st.binary(max_size=60)
    | st.sampled_from(
        [
            b'"stac_version"',
            b'["stac_version"]',
            b'{"stac_version": 1, "links": 3, "assets": []}',
            b'{"type": "FeatureCollection", "features": {}}',
        ]
    )
)
def test_other_documents_stay(document: bytes) -> None:
    made = with_addresses(document, "/x", "http://h")
    if made != document:
        assert json.loads(made) == json.loads(document)


# -- who may ask


def ask(
    rules: Rules,
    peer: Peer | None = None,
    *,
    method: str = "GET",
    path: bytes = b"/assets/x",
    **headers: str,
) -> AdmittedRequest | Refusal:
    told = {"host": "127.0.0.1:8042"} | {k.replace("_", "-"): v for k, v in headers.items()}
    return admit(rules, peer or Peer(OWNER), method, path, told)


def status_of(answer: AdmittedRequest | Refusal) -> int:
    return answer.status if isinstance(answer, Refusal) else 200


LOCAL = Rules(OWNER)
SECRET = Rules(OWNER, token=TOKEN, is_local=False)


@pytest.mark.claim("S281")
def test_without_a_token_only_the_user_and_root_may_ask() -> None:
    assert status_of(ask(LOCAL, Peer(OWNER))) == 200
    assert status_of(ask(LOCAL, Peer(0))) == 200
    assert status_of(ask(LOCAL, Peer(OTHER))) == 403
    assert status_of(ask(LOCAL, Peer(None))) == 403
    assert status_of(ask(LOCAL, Peer(OTHER), path=b"/healthz")) == 200
    shared = ask(Rules(OWNER, allow_other=True), Peer(OTHER))
    assert isinstance(shared, AdmittedRequest)
    assert not shared.is_trusted
    everything = ask(Rules(OWNER, allow_other=True, share_links=True), Peer(OTHER))
    assert isinstance(everything, AdmittedRequest)
    assert everything.is_trusted


@pytest.mark.claim("S281")
def test_a_token_lets_anyone_in_and_nothing_else_does() -> None:
    basic = base64.b64encode(f"me:{TOKEN}".encode()).decode()
    alone = base64.b64encode(f"{TOKEN}:".encode()).decode()
    for peer in (Peer(OTHER), Peer(None), Peer(OWNER)):
        assert status_of(ask(SECRET, peer)) == 401
        assert status_of(ask(SECRET, peer, authorization=f"Bearer {TOKEN}")) == 200
        assert status_of(ask(SECRET, peer, authorization=f"Basic {basic}")) == 200
        assert status_of(ask(SECRET, peer, authorization=f"basic {alone}")) == 200
        assert status_of(ask(SECRET, peer, path=f"/~{TOKEN}/assets/x".encode())) == 200
        for wrong in ("Bearer", "Bearer x", f"Bearer {TOKEN}x", "Basic ???", f"Digest {TOKEN}"):
            assert status_of(ask(SECRET, peer, authorization=wrong)) == 401
        assert status_of(ask(SECRET, peer, path=b"/~wrong/assets/x")) == 401
        assert status_of(ask(SECRET, peer, path=f"/{TOKEN}/x".encode())) == 401
    entry = ask(SECRET, path=f"/~{TOKEN}/assets/x".encode())
    assert entry == AdmittedRequest(b"/assets/x", prefix=f"/~{TOKEN}")
    assert TOKEN not in repr(SECRET)


def test_a_token_that_nobody_set_is_said() -> None:
    assert status_of(ask(LOCAL, path=b"/~anything/assets/x")) == 404


@pytest.mark.claim("S282")
def test_pages_of_other_sites_may_not_ask() -> None:
    for site in ("cross-site", "same-site"):
        assert status_of(ask(LOCAL, sec_fetch_site=site, sec_fetch_mode="no-cors")) == 403
        assert (
            status_of(
                ask(LOCAL, sec_fetch_site=site, sec_fetch_mode="navigate", sec_fetch_dest="iframe")
            )
            == 403
        )
        # A link that the user follows.
        assert (
            status_of(
                ask(
                    LOCAL, sec_fetch_site=site, sec_fetch_mode="navigate", sec_fetch_dest="document"
                )
            )
            == 200
        )
    assert status_of(ask(LOCAL, sec_fetch_site="same-origin", sec_fetch_mode="cors")) == 200
    assert status_of(ask(LOCAL, host="evil.example.org")) == 403
    assert status_of(ask(LOCAL, host="evil.example.org", path=b"/healthz")) == 403
    assert cors_headers(LOCAL, {"origin": "https://evil.example.org"}) == []


@pytest.mark.claim("S282")
def test_pages_of_listed_origins_may_read() -> None:
    origin = "https://maps.example.org"
    rules = Rules(OWNER, origins=frozenset({origin}))
    entry = ask(rules, origin=origin, sec_fetch_site="cross-site", sec_fetch_mode="cors")
    assert isinstance(entry, AdmittedRequest)
    assert entry.is_from_page
    assert ("access-control-allow-origin", origin) in cors_headers(rules, {"origin": origin})
    evil = {"origin": "https://evil.example.org"}
    assert cors_headers(rules, evil) == [("vary", "Origin")]
    assert (
        status_of(
            ask(rules, origin=evil["origin"], sec_fetch_site="cross-site", sec_fetch_mode="cors")
        )
        == 403
    )
    asked = {"host": "localhost", "access-control-request-method": "GET"}
    assert preflight(rules, "OPTIONS", asked | {"origin": origin})
    assert not preflight(rules, "OPTIONS", asked | evil)
    assert not preflight(rules, "OPTIONS", asked | {"origin": origin, "host": "evil.org"})
    assert not preflight(LOCAL, "OPTIONS", asked | {"origin": origin})


def test_only_reading() -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PROPFIND", "TRACE"):
        assert status_of(ask(LOCAL, method=method)) == 405
    assert status_of(ask(LOCAL, method="HEAD")) == 200
    assert status_of(ask(LOCAL, content_length="5")) == 413
    assert status_of(ask(LOCAL, transfer_encoding="chunked")) == 413
    assert status_of(ask(LOCAL, content_length="0")) == 200


@given(st.binary(max_size=40), st.text(max_size=40), st.sampled_from([LOCAL, SECRET]))
def test_nobody_else_enters(path: bytes, authorization: str, rules: Rules) -> None:
    assume(TOKEN.encode() not in path)
    assume(path != b"/healthz")
    answer = ask(rules, Peer(OTHER), path=path, authorization=authorization)
    assert isinstance(answer, Refusal)


# -- directories


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/json", True),
        ("*/*", False),
        ("", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("application/json, text/html", False),
        ("application/json, text/html;q=0.9", True),
        ("application/json;q=0", False),
        ("application/json;q=x", False),
    ],
)
def test_json_is_for_those_who_ask(accept: str, expected: bool) -> None:
    assert wants_json(accept) is expected
    assert wants_json(accept, said=True)
    assert not wants_json(accept, said=False)


FILE = Attributes(5, stat.S_IFREG | 0o644, 1, 12, 0, 0, 1.0)
UNKNOWN = FILE._replace(size=0, attr_ttl_s=0.0)
DIRECTORY = Attributes(6, stat.S_IFDIR | 0o755, 2, 0, 0, 0, 1.0)


@given(st.dictionaries(NAMES, st.sampled_from([FILE, UNKNOWN, DIRECTORY]), max_size=5))
def test_directories_link_to_their_entries(listing: dict[str, Attributes]) -> None:
    base = "http://h:1/~t"
    told = json.loads(as_json("/a b", listing, base))
    assert [entry["name"] for entry in told["entries"]] == list(listing)
    page = as_html("/a b", listing, base).decode()
    for name, entry in zip(listing, told["entries"], strict=True):
        assert entry["size"] == (12 if listing[name] is FILE else None)
        path = urlsplit(entry["href"]).path.removeprefix("/~t")
        assert decoded(path.encode()) == f"/a b/{name}"
        assert path.endswith("/") is listing[name].is_dir
        href = urlsplit(urljoin("http://h:1", entry["href"])).path
        assert href.replace("&", "&amp;").replace("'", "&#x27;") in page
    assert "<script" not in page
