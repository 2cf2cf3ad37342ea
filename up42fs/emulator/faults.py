"""The fault switches: one table for the command line, the control endpoint and in-process tests.

Two kinds. *Nature* switches apply to every request (the lifetime of links, the shape of error
bodies). *Strikes* hit only selected requests: those whose plane, route and object match, after
`fail_skip` of them, for `fail_next` of them (None = always), with probability `fail_share`. Knows
nothing of sockets or routes; it decides and the server acts.
"""

from __future__ import annotations

import argparse
import random
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from up42fs.emulator.wire import Effects

PLANES = ("api", "auth", "store")


def _switch(default: Any, words: str, choices: tuple[Any, ...] = ()) -> Any:
    return field(default=default, metadata={"help": words, "choices": choices})


@dataclass(frozen=True, slots=True)
class Faults:
    """Every switch, with defaults that give the service described in the contract."""

    # nature: time and speed
    link_life_s: float = _switch(300.0, "life of a signed link")
    token_life_s: float = _switch(300.0, "life of an access token")
    latency_s: float = _switch(0.0, "wait before every answer, on all planes")
    api_latency_s: float | None = _switch(None, "instead of latency_s on the API plane")
    auth_latency_s: float | None = _switch(None, "instead of latency_s on the identity server")
    store_latency_s: float | None = _switch(None, "instead of latency_s on the object store")
    bandwidth_bytes_s: float | None = _switch(None, "limit of each connection to the object store")
    date_skew_s: float = _switch(0.0, "the servers' clock is ahead by this much")
    # nature: shapes
    error_shape: str = _switch("problem", "body of API errors", ("problem", "basic", "v1"))
    assets_gone: int | None = _switch(None, "/v2/assets and its metadata are gone", (404, 410))
    asset_get: str = _switch("stream", "GET /v2/assets/{id}", ("stream", "redirect", "404"))
    stac_asset_metadata: bool = _switch(False, "/metadata also answers for STAC assets")
    href_suffix: str = _switch("no", "STAC hrefs end in /download-url", ("no", "yes", "mixed"))
    http_next_link: bool = _switch(False, "STAC next links name http:// and no port")
    quoted_disposition: str = _switch("no", "file name in links quoted", ("no", "yes", "mixed"))
    link_style: str = _switch("v2", "signature style of links", ("v2", "v4"))
    expired_wording: str = _switch("new", "wording of ExpiredToken", ("old", "new"))
    max_page_size: int = _switch(500, "larger pages are cut to this, silently")
    page_size_error_above: int | None = _switch(None, "larger pages are refused with 400")
    order_assets: bool = _switch(False, "orders list their assets")
    bare_orders: str = _switch(
        "no", "orders have no createdAt, updatedAt and orderDetails", ("no", "yes", "mixed")
    )
    coverage_shape: str = _switch(
        "features", "geometry of an order's coverage", ("features", "geometry", "404")
    )
    stac_random_401_share: float = _switch(0.0, "share of STAC requests answered 401")
    # nature: behaviour of other installations
    items_without_order: str = _switch(
        "no", "items have no up42-order:id, and order_id finds none of them", ("no", "yes", "mixed")
    )
    in_refused: int | None = _switch(None, "searches with CQL2 `in` get this status")
    advanced_refused: int | None = _switch(
        None, "searches with any of CQL2's advanced operators (in, like, between) get this status"
    )
    null_refused: int | None = _switch(None, "searches with CQL2 `isNull` get this status")
    strict_accept: bool = _switch(False, "406 where Accept does not grant the answer's type")
    rows_without_id: int = _switch(0, "each v2 list has so many rows without an ID")
    rows_twice: int = _switch(0, "each v2 list has so many of its rows twice")
    total_off: int = _switch(0, "totalElements says so many more (or less)")
    scope_refused: bool = _switch(False, "400 invalid_scope to a token request with a scope")
    api_prefix: str | None = _switch(None, "the API answers below this path only, as /up42")
    public_url: str | None = _switch(None, "bodies name this URL instead of the API's own")
    next_link: str = _switch(
        "absolute", "STAC next links", ("absolute", "path", "relative", "query")
    )
    odd_hrefs: str = _switch(
        "no", "STAC hrefs lead to /v2/files/{id}, not to /v2/assets/{id}", ("no", "yes", "mixed")
    )
    half_edit: str = _switch(
        "kept",
        "an edit of only title or only tags: the other is kept, cleared, or the edit refused",
        ("kept", "cleared", "refused"),
    )
    assets_without_names: bool = _switch(False, "assets have no name; their links still tell it")
    links_without_names: bool = _switch(False, "links have no response-content-disposition")
    content_type_says: str | None = _switch(None, "the contentType of every asset")
    files_twice: str = _switch(
        "no", "items list their first file a second time, under another key", ("no", "yes", "mixed")
    )
    result_asset: str = _switch(
        "own", "up42-system:asset_id of processing results: their own, or none", ("own", "none")
    )
    collection_assets: bool = _switch(
        False, "collections have assets of their own: the delivery and a thumbnail"
    )
    # nature: object store
    head_refused: bool = _switch(False, "the object store refuses HEAD")
    gzip_objects: bool = _switch(False, "objects are stored gzipped: inflated, Range ignored")
    redirect_store: bool = _switch(False, "the object store redirects to another path first")
    no_etag: bool = _switch(False, "the object store sends no ETag")
    no_last_modified: bool = _switch(False, "the object store sends no Last-Modified")
    no_generation: bool = _switch(False, "the object store sends no x-goog-generation")
    ignore_conditions: bool = _switch(False, "the object store ignores If-Match and its kin")
    # which requests are struck
    fail_plane: str | None = _switch(None, "strike only this plane", PLANES)
    fail_route: str | None = _switch(None, "strike only this route, as store.get")
    fail_object: str | None = _switch(None, "strike only requests about this asset ID")
    fail_skip: int = _switch(0, "let this many matching requests pass first")
    fail_next: int | None = _switch(None, "strike this many requests, then none")
    fail_share: float = _switch(1.0, "strike this share of them, at random")
    fail_seed: int = _switch(42, "seed of that chance and of stac_random_401_share")
    # how they are struck
    fail_status: int | None = _switch(None, "answer with this status")
    fail_body: str | None = _switch(None, "instead of an error body", ("html", "empty"))
    fail_applied: bool = _switch(False, "carry the request out before fail_status is answered")
    drop_request: bool = _switch(False, "reset the connection, the request not carried out")
    retry_after: str | None = _switch(
        None, "Retry-After of that answer: seconds, or 'date:SECONDS'"
    )
    reset_before_headers: bool = _switch(False, "reset the connection instead of an answer")
    stall_before_headers_s: float = _switch(0.0, "wait before the head")
    cut_body_at: int | None = _switch(None, "reset the connection after this many body bytes")
    short_body: int | None = _switch(None, "close cleanly this many bytes early")
    too_long_body: int | None = _switch(None, "send this many bytes beyond the Content-Length")
    stall_body_at: int | None = _switch(None, "wait stall_s after this many body bytes")
    stall_s: float = _switch(0.0, "length of that wait")
    drip_bytes_s: float | None = _switch(None, "send the body this slowly")
    wrong_content_range: bool = _switch(False, "Content-Range starts one byte late")
    wrong_total: bool = _switch(False, "Content-Range names another total")
    ignore_range: bool = _switch(False, "200 and the whole object to a ranged request")
    other_etag: bool = _switch(False, "the object has another ETag than before")
    bad_content_type: bool = _switch(False, "the answer's Content-Type is wrong")
    body_encoding: str | None = _switch(
        None, "send the body gzipped, twice, or only labelled so", ("gzip", "gzip-gzip", "label")
    )
    bloat: str | None = _switch(
        None,
        "the answer is JSON without end: empty lists packed a thousandfold, 134000 rows, lists in "
        "lists, or IDs and links of 70000 characters",
        ("lists", "rows", "deep", "long"),
    )
    redirect_to: str | None = _switch(None, "302 to the same path of this other origin")
    link_origin: str | None = _switch(None, "links name this origin instead of the store's")
    expired_link: bool = _switch(False, "links have ended when they are signed")
    altered_link: bool = _switch(False, "links have a wrong signature")

    def effects(self, plane: str, struck: bool) -> Effects:
        """Return how the wire treats a response on `plane`."""
        latency_s = getattr(self, f"{plane}_latency_s")
        latency_s = self.latency_s if latency_s is None else latency_s
        rates = [self.bandwidth_bytes_s if plane == "store" else None]
        if not struck:
            return Effects(latency_s, rates[0])
        rates.append(self.drip_bytes_s)
        return Effects(
            latency_s=latency_s,
            rate_bytes_s=min((rate for rate in rates if rate), default=None),
            reset_before_headers=self.reset_before_headers or self.drop_request,
            stall_before_headers_s=self.stall_before_headers_s,
            cut_body_at=self.cut_body_at,
            short_body=self.short_body,
            too_long_body=self.too_long_body,
            stall_body_at=self.stall_body_at,
            stall_s=self.stall_s,
        )


class BadSwitchError(ValueError):
    """An unknown switch, or an invalid value."""


class FaultBox:
    """The current switches, which may change while the servers run."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.random = random.Random(faults.fail_seed)

    def patch(self, changes: Mapping[str, Any]) -> Faults:
        """Merge `changes` (JSON values by switch name); raises `BadSwitchError`."""
        known = {item.name: item for item in fields(Faults)}
        unknown = changes.keys() - known.keys()
        if unknown:
            raise BadSwitchError(f"no such switch: {', '.join(sorted(unknown))}")
        checked = {name: _check(known[name], value) for name, value in changes.items()}
        self.faults = replace(self.faults, **checked)
        if "fail_seed" in changes:
            self.random = random.Random(self.faults.fail_seed)
        return self.faults

    def strike(self, plane: str, route: str, object_id: str | None) -> bool:
        """Decide whether this request is struck; decrement the counts."""
        faults = self.faults
        if not _is_armed(faults) or not _matches(faults, plane, route, object_id):
            return False
        if faults.fail_skip > 0:
            self.faults = replace(faults, fail_skip=faults.fail_skip - 1)
            return False
        if faults.fail_next == 0 or self.random.random() >= faults.fail_share:
            return False
        if faults.fail_next is not None:
            self.faults = replace(faults, fail_next=faults.fail_next - 1)
        return True


def _matches(faults: Faults, plane: str, route: str, object_id: str | None) -> bool:
    return (
        faults.fail_plane in (None, plane)
        and faults.fail_route in (None, route)
        and faults.fail_object in (None, object_id)
    )


_STRIKE_NAMES = (
    "fail_status", "drop_request", "reset_before_headers", "stall_before_headers_s", "short_body",
    "too_long_body", "drip_bytes_s", "wrong_content_range", "wrong_total",
    "ignore_range", "other_etag", "bad_content_type", "body_encoding", "bloat", "redirect_to",
    "link_origin", "expired_link", "altered_link",
)  # fmt: skip


def _is_armed(faults: Faults) -> bool:
    """Return whether any strike is set; if not, the counts stay."""
    if faults.cut_body_at is not None or faults.stall_body_at is not None:
        return True  # byte 0 is a valid position
    return any(getattr(faults, name) for name in _STRIKE_NAMES)


def _check(item: Any, value: Any) -> Any:
    """Return `value` as the switch's type; raises `BadSwitchError`."""
    kind, optional = _kind(item.name)
    if value is None and optional:
        return None
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise BadSwitchError(f"{item.name} takes {kind.__name__}, not {value!r}")
    choices = item.metadata["choices"]
    if choices and value not in choices:
        raise BadSwitchError(f"{item.name} is one of {choices}, not {value!r}")
    return value


def _kind(name: str) -> tuple[type, bool]:
    hint = typing.get_type_hints(Faults)[name]
    if isinstance(hint, types.UnionType):
        return next(part for part in hint.__args__ if part is not type(None)), True
    return hint, False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one flag for each switch: `link_life_s` is `--link-life-s`."""
    group = parser.add_argument_group("fault switches")
    for item in fields(Faults):
        flag = "--" + item.name.replace("_", "-")
        kind, _ = _kind(item.name)
        words = f"{item.metadata['help']} (default: {item.default})"
        if kind is bool:
            group.add_argument(flag, action="store_true", default=item.default, help=words)
            continue
        choices = item.metadata["choices"] or None
        group.add_argument(flag, type=kind, default=item.default, choices=choices, help=words)


def from_arguments(args: argparse.Namespace) -> Faults:
    """Return the switches that the command line sets."""
    return Faults(**{item.name: getattr(args, item.name) for item in fields(Faults)})
