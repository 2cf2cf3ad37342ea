import pytest
from api_helpers import API

from up42fs.api.links import (
    NextLink,
    asset_id_of_href,
    is_safe_link,
    next_link,
    require_secure,
    segment,
    signing_path,
)
from up42fs.errors import ConfigurationError, InvalidAnswer, InvalidArgument


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://api.up42.com", "https://api.up42.com"),
        ("https://api.sa.up42.com/", "https://api.sa.up42.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.9.9.9:1", "http://127.9.9.9:1"),
        ("http://localhost:8080/", "http://localhost:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://proxy.example/up42/", "https://proxy.example/up42"),
    ],
)
def test_hosts_that_may_be_sent_secrets(url: str, kept: str) -> None:
    assert require_secure(url) == kept


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://api.up42.com", "use https://api.up42.com"),
        ("http://127.0.0.1.evil.example", "unencrypted"),
        ("http://10.0.0.1", "unencrypted"),
        ("ftp://api.up42.com", "not a web address"),
        ("api.up42.com", "not a web address"),
        ("", "not a web address"),
        ("https://", "not a web address"),
        ("https://host:port", "not a web address"),
        ("https://me:hunter2@api.up42.com", "UP42_PASSWORD"),
        ("https://api.up42.com/?token=hunter2", "query"),
    ],
)
def test_hosts_that_may_not(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        require_secure(url, setting="UP42_API_URL")
    assert "UP42_API_URL" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_presigned_links_are_https_but_on_loopback() -> None:
    public, local = "https://api.up42.com", "http://127.0.0.1:8080"
    for api_url in (public, local):
        assert is_safe_link("https://storage.googleapis.com/a?Expires=1", api_url)
        assert not is_safe_link("http://storage.googleapis.com/a?Expires=1", api_url)
        assert not is_safe_link("file:///etc/passwd", api_url)
        assert not is_safe_link("gopher://storage.googleapis.com/", api_url)
        assert not is_safe_link("https://[bad", api_url)
        for odd in ("\0https://a.example/x", "https://a.example/x y", "https://a.example/\r\nX: 1"):
            assert not is_safe_link(odd, api_url)
    assert is_safe_link("http://127.0.0.1:9/a?Expires=1", local)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.8.8.8:22", "[::1]", "localhost", "x.localhost", "0.0.0.0", "169.254.169.254",
     "[fe80::1]", "[::ffff:127.0.0.1]"],
)  # fmt: skip
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.claim("S82")
def test_a_public_api_cannot_point_at_this_machine_or_its_clouds_metadata(
    scheme: str, host: str
) -> None:
    assert not is_safe_link(f"{scheme}://{host}/latest/meta-data", "https://api.up42.com")


@pytest.mark.parametrize("name", ["", ".", "..", "a\nb", "a\0"])
def test_what_cannot_be_a_path_segment(name: str) -> None:
    with pytest.raises(InvalidArgument):
        segment(name)


def test_path_segments_are_quoted() -> None:
    assert segment("a/b?c#é") == "a%2Fb%3Fc%23%C3%A9"


UUID = "f5b31cdf-f0fb-4da2-b700-ea8d0fcc34ae"


@pytest.mark.parametrize(
    "href",
    [
        f"{API}/v2/assets/{UUID}",
        f"{API}/v2/assets/{UUID}/",
        f"{API}/v2/assets/{UUID}/download-url",
        f"http://api.up42.com/v2/assets/{UUID}",
        f"https://API.UP42.com:443/v2/assets/{UUID}",
        f"/v2/assets/{UUID}/download-url",
        f"{API}/v2/assets/{UUID}?x=1",
    ],
)
def test_hrefs_that_name_an_asset(href: str) -> None:
    assert asset_id_of_href(href, API) == (UUID, None)


@pytest.mark.parametrize(
    ("href", "reason"),
    [
        (f"https://evil.example/v2/assets/{UUID}", "evil.example"),
        (f"https://api.up42.com@evil.example/v2/assets/{UUID}", "evil.example"),
        (f"https://api.sa.up42.com/v2/assets/{UUID}", "api.sa.up42.com"),
        (f"https://api.up42.com.evil.example/v2/assets/{UUID}", "evil.example"),
        ("s3://bucket/key", "not a web address"),
        ("https://[bad", "not a web address"),
        (f"{API}/v2/assets/stac", "does not name"),
        (f"{API}/v2/assets/", "does not name"),
        (f"{API}/v2/assets/../x", "does not name"),
        (f"{API}/v2/assets/%2e%2e/x", "does not name"),
        (f"{API}/v2/assets//{UUID}", "does not name"),
        (f"{API}/v2/assets/a%00b", "does not name"),
        (f"{API}/other/{UUID}", "does not name"),
        (f"{API}/v2/{UUID}", "does not name"),
        (f"{API}/v2/assets/a%2Fb", "does not name"),
    ],
)
def test_hrefs_that_do_not(href: str, reason: str) -> None:
    asset_id, why = asset_id_of_href(href, API)
    assert asset_id is None
    assert why is not None
    assert reason in why


def test_an_api_behind_a_path_prefix() -> None:
    base = "https://proxy.example/up42"
    assert asset_id_of_href(f"{base}/v2/assets/{UUID}", base) == (UUID, None)
    # Bodies that know the gateway's host and not its path:
    assert asset_id_of_href(f"https://proxy.example/v2/assets/{UUID}", base) == (UUID, None)
    assert asset_id_of_href(f"https://proxy.example/other/{UUID}", base)[0] is None


@pytest.mark.parametrize(
    ("href", "path"),
    [
        (f"{API}/v2/catalog/x/quicklooks/{UUID}/download-url", f"/v2/catalog/x/quicklooks/{UUID}"),
        (f"{API}/v2/files/{UUID}", f"/v2/files/{UUID}"),
        (f"{API}/v2/files/a%20b%C3%A9.tif", "/v2/files/a%20b%C3%A9.tif"),
        (f"http://api.up42.com/v2/assets/{UUID}/parts/1/", f"/v2/assets/{UUID}/parts/1"),
    ],
)
def test_any_other_place_of_the_api_is_named_by_its_path(href: str, path: str) -> None:
    assert asset_id_of_href(href, API) == (path, None)
    assert signing_path(path) == f"{path}/download-url"


def test_ids_are_signed_as_assets() -> None:
    assert signing_path(UUID) == f"/v2/assets/{UUID}/download-url"
    assert signing_path("/v2/../admin") == "/v2/assets/%2Fv2%2F..%2Fadmin/download-url"
    assert signing_path("a/b?c") == "/v2/assets/a%2Fb%3Fc/download-url"
    with pytest.raises(InvalidArgument):
        signing_path("..")


GATEWAYS = ["http://127.0.0.1:8080", "https://proxy.example/up42", "https://10.0.0.7:8443/a/b"]


@pytest.mark.claim("S163")
@pytest.mark.parametrize("gateway", GATEWAYS)
@pytest.mark.parametrize("host", ["https://api.up42.com", "https://api.sa.up42.com"])
def test_behind_a_gateway_bodies_may_name_the_public_host(gateway: str, host: str) -> None:
    assert asset_id_of_href(f"{host}/v2/assets/{UUID}", gateway) == (UUID, None)
    found = next_link(link(href=f"{host}/v2/assets/stac/search?a=1"), gateway, sent_body=None)
    assert found == NextLink(f"{gateway}/v2/assets/stac/search?a=1")
    assert asset_id_of_href(f"https://evil.example/v2/assets/{UUID}", gateway)[0] is None


@pytest.mark.claim("S163")
@pytest.mark.parametrize("gateway", [*GATEWAYS, API])
@pytest.mark.parametrize("base", ["https://inner.example", "http://inner.example:81/deep/er"])
@pytest.mark.parametrize("rel", ["self", "root"])
def test_behind_a_gateway_bodies_may_name_what_they_take_for_their_own_host(
    gateway: str, base: str, rel: str
) -> None:
    links = [{"rel": rel, "href": f"{base}/v2/assets/stac/collections/c"}]
    document = {"links": links}
    assert asset_id_of_href(f"{base}/v2/assets/{UUID}", gateway, document) == (UUID, None)
    assert asset_id_of_href(f"{base}/v2/assets/{UUID}", gateway)[0] is None
    onward = [*links, {"rel": "next", "href": f"{base}/v2/assets/stac/search?a=1"}]
    assert next_link(onward, gateway, sent_body=None) == NextLink(
        f"{gateway}/v2/assets/stac/search?a=1"
    )
    foreign = {"links": [{"rel": rel, "href": "https://evil.example/about"}]}
    assert asset_id_of_href(f"https://evil.example/v2/assets/{UUID}", gateway, foreign)[0] is None


def test_a_region_is_no_gateway_to_the_other() -> None:
    other = "https://api.sa.up42.com"
    document = {"links": [{"rel": "self", "href": f"{other}/v2/assets/stac/x"}]}
    assert asset_id_of_href(f"{other}/v2/assets/{UUID}", API, document)[0] is None


@pytest.mark.claim("S164")
@pytest.mark.parametrize("api", ["https://api.up42.com", "https://proxy.example/up42"])
@pytest.mark.parametrize(
    ("href", "path"),
    [
        ("?token=next:1", "/v2/assets/stac/collections/c/items?token=next:1"),
        ("items?token=next:1", "/v2/assets/stac/collections/c/items?token=next:1"),
        ("../c/items?a=1", "/v2/assets/stac/collections/c/items?a=1"),
        ("/v2/assets/stac/collections/c/items?a=1", "/v2/assets/stac/collections/c/items?a=1"),
        ("//api.up42.com/v2/assets/stac/x?a=1", "/v2/assets/stac/x?a=1"),
        ("", "/v2/assets/stac/collections/c/items"),
    ],
)
def test_relative_links_resolve_against_the_request(api: str, href: str, path: str) -> None:
    at = f"{api}/v2/assets/stac/collections/c/items"
    assert next_link(link(href=href), api, sent_body=None, at=at) == NextLink(api + path)


def test_relative_hrefs_of_files_resolve_against_their_item() -> None:
    base = "https://proxy.example/up42"
    links = [{"rel": "self", "href": f"{base}/v2/assets/stac/collections/c/items/i"}]
    document = {"links": links}
    for href in (f"/v2/assets/{UUID}", f"../../../../{UUID}", f"{base}/v2/assets/{UUID}"):
        assert asset_id_of_href(href, base, document) == (UUID, None)


def link(**fields: object) -> list[object]:
    return [{"rel": "self", "href": "x"}, {"rel": "next", **fields}]


def test_a_get_link_keeps_its_query_and_takes_the_apis_own_origin() -> None:
    href = "http://api.up42.com/v2/assets/stac/collections?limit=10&token=next:abc"
    assert next_link(link(href=href, method="GET"), API, sent_body=None) == NextLink(
        "https://api.up42.com/v2/assets/stac/collections?limit=10&token=next:abc"
    )
    assert next_link(link(href="/v2/x?a=1"), API, sent_body=None) == NextLink(f"{API}/v2/x?a=1")


def test_a_post_link_carries_its_body_as_given_or_merged() -> None:
    href, body = f"{API}/v2/assets/stac/search", {"token": "next:1"}
    sent = {"limit": 5}
    plain = next_link(link(href=href, method="POST", body=body), API, sent_body=sent)
    assert plain == NextLink(href, body)
    merged = next_link(link(href=href, method="POST", body=body, merge=True), API, sent_body=sent)
    assert merged == NextLink(href, {"limit": 5, "token": "next:1"})


@pytest.mark.parametrize("links", [None, [], "next", {}, [None, 3, {"rel": "prev", "href": "x"}]])
def test_the_last_page_has_no_next_link(links: object) -> None:
    assert next_link(links, API, sent_body=None) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"href": "https://evil.example/v2/assets/stac/search?token=1"},
        {"href": "https://api.up42.com@evil.example/v2"},
        {"href": "https://api.sa.up42.com/v2/x"},
        {"href": None},
        {"href": "javascript:alert(1)"},
        {"href": f"{API}/v2/x", "method": "DELETE"},
        {"href": f"{API}/v2/x", "method": "POST"},
        {"href": f"{API}/v2/x", "method": "POST", "body": [1]},
    ],
)
def test_links_that_are_not_followed(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidAnswer):
        next_link(link(**fields), API, sent_body=None)
