"""The object store behind presigned links, as strict as storage.googleapis.com (contract §6).

Checks links, conditions and one byte range, and responds with Google's headers and XML errors.
`x-goog-hash` has the MD5 of simple uploads only; Google adds a CRC-32C, which would require reading
every byte of a large file for a header that no client here uses. Knows nothing of accounts or
tokens.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from xml.sax.saxutils import escape

from up42fs.emulator import links
from up42fs.emulator.clock import US, format_http, to_us
from up42fs.emulator.content import FileContent
from up42fs.emulator.faults import Faults
from up42fs.emulator.service import EmulatedService, Endpoint, ReceivedCall
from up42fs.emulator.storage import EmulatedObject
from up42fs.emulator.wire import Request, Response, Slice

REDIRECTED = "/redirected"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
#: A number with more digits makes a range malformed.
_DIGITS = 18


class UnsatisfiableRangeError(Exception):
    """The range holds no byte of the object."""


@dataclass(frozen=True, slots=True)
class _Identity:
    etag: str
    modified_us: int


# -- links, for the API


def sign(service: EmulatedService, stored: EmulatedObject, strikes: Faults | None = None) -> str:
    """Return a fresh link to the object, according to the switches and `strikes`."""
    faults, strikes = service.faults, strikes or Faults()
    if service.external is not None and isinstance(stored.content, FileContent):
        expires_at_s = service.now_s() + faults.link_life_s
        return service.external.link(stored.content.path, expires_at_s)
    text = disposition(stored, _is_on(faults.quoted_disposition, stored.file_id))
    if faults.links_without_names:
        text = None
    path, store_url = stored.url_path, strikes.link_origin or service.urls.store_url
    secret = b"another" if strikes.altered_link else service.link_secret
    signed_us = service.now_us() - (2 * int(faults.link_life_s) * US if strikes.expired_link else 0)
    if faults.link_style == "v4":
        return links.make_v4(secret, store_url, path, text, signed_us, faults.link_life_s)
    return links.make_v2(secret, store_url, path, text, signed_us / US + faults.link_life_s)


def disposition(stored: EmulatedObject, quoted: bool) -> str | None:
    """Return the Content-Disposition of a link; only the stem for `data.<ext>` objects."""
    name = stored.filename
    if not name:
        return None
    if stored.path.rpartition("/")[2].startswith("data."):
        name = name.partition(".")[0] or name
    return f'attachment; filename="{name}"' if quoted else f"attachment; filename={name}"


def _is_on(switch: str, file_id: str) -> bool:
    """Resolve a no|yes|mixed switch; mixed selects half of the objects by ID."""
    return switch == "yes" or (switch == "mixed" and int(file_id[-1], 16) % 2 == 1)


# -- requests, at the store


def _serve(call: ReceivedCall) -> Response:
    request, faults = call.request, call.faults
    path = request.path
    if faults.redirect_store and not path.startswith(REDIRECTED + "/"):
        return Response(302, (("Location", REDIRECTED + request.raw_target),))
    path = path.removeprefix(REDIRECTED)
    try:
        links.check(
            call.service.link_secret, request, path, call.service.now_s(), faults.expired_wording
        )
        if request.method == "HEAD" and faults.head_refused:
            raise links.LinkRefusedError(403, "AccessDenied", "Access denied.")
        stored = call.storage.objects.get(path)
        if stored is None:
            raise links.LinkRefusedError(
                404, "NoSuchKey", "The specified key does not exist.", f"No such object: {path[1:]}"
            )
        return _answer(call, stored)
    except links.LinkRefusedError as error:
        return _xml(error)
    except UnsatisfiableRangeError:
        return _xml(
            links.LinkRefusedError(
                416,
                "InvalidRange",
                "The requested range cannot be satisfied.",
                request.headers.get("range"),
            )
        )


def _answer(call: ReceivedCall, stored: EmulatedObject) -> Response:
    request, strikes = call.request, call.strikes
    etag = _moved(stored.etag) if strikes.other_etag else stored.etag
    identity = _Identity(etag, stored.modified_us)
    if not call.faults.ignore_conditions:
        refused = check_conditions(request, identity)
        if refused is not None:
            return _unmet(refused, identity)
    headers = _headers(call, stored, identity)
    size = stored.content.size
    if call.faults.gzip_objects:
        return _inflated(stored, headers, size)
    span = None
    if not strikes.ignore_range:
        span = parse_range(request.headers.get("range"), size)
    headers.append(("Accept-Ranges", "bytes"))
    if span is None:
        return Response(200, tuple(headers), Slice(stored.content, 0, size))
    headers.append(("Content-Range", _content_range(span, size, strikes)))
    return Response(206, tuple(headers), Slice(stored.content, *span))


def _inflated(stored: EmulatedObject, headers: list[tuple[str, str]], size: int) -> Response:
    """The gzip trap: the Range is ignored and no length is known (contract §6)."""
    headers.append(("Warning", "214 UploadServer gunzipped"))
    return Response(200, tuple(headers), Slice(stored.content, 0, size), has_length=False)


def _content_range(span: tuple[int, int], size: int, strikes: Faults) -> str:
    start, last = span[0], span[1] - 1
    if strikes.wrong_content_range:
        start, last = start + 1, last + 1
    total = size + 4096 if strikes.wrong_total else size
    return f"bytes {start}-{last}/{total}"


def _headers(
    call: ReceivedCall, stored: EmulatedObject, identity: _Identity
) -> list[tuple[str, str]]:
    is_gzip = call.faults.gzip_objects
    media_type = "text/html" if call.strikes.bad_content_type else stored.media_type
    headers = [
        ("ETag", identity.etag),
        ("Last-Modified", format_http(identity.modified_us)),
        ("Content-Type", media_type),
        ("x-goog-generation", str(1_700_000_000_000_000 + stored.generation)),
        ("x-goog-metageneration", "1"),
        ("x-goog-stored-content-encoding", "gzip" if is_gzip else "identity"),
        ("x-goog-storage-class", "STANDARD"),
        ("X-GUploader-UploadID", hashlib.sha256(stored.path.encode()).hexdigest()[:40]),
        ("Cache-Control", "private, max-age=0"),
    ]
    if not is_gzip:
        headers.append(("x-goog-stored-content-length", str(stored.content.size)))
    md5 = stored.content.md5
    if md5 is not None:
        headers.append(("x-goog-hash", f"md5={base64.b64encode(md5).decode()}"))
    hidden = _hidden(call.faults)
    headers = [header for header in headers if header[0] not in hidden]
    shown = call.request.get("response-content-disposition")
    if shown is not None:
        headers.append(("Content-Disposition", _header_safe(shown)))
    return headers


def _hidden(faults: Faults) -> set[str]:
    """Return the names of headers that this store does not send."""
    switches = {
        "ETag": faults.no_etag,
        "Last-Modified": faults.no_last_modified,
        "x-goog-generation": faults.no_generation,
    }
    return {name for name, is_hidden in switches.items() if is_hidden}


def _header_safe(text: str) -> str:
    """Replace characters that a header cannot carry: control characters."""
    return "".join(char if char.isprintable() else "_" for char in text)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the half-open range that `header` requests of `size` bytes; None = the whole object.

    Ends beyond the object are cut, suffixes resolved; several ranges and malformed ones are
    ignored. Raises `UnsatisfiableRangeError` if the range holds no byte, as is always so for an
    empty object.
    """
    found = _RANGE.fullmatch((header or "").replace(" ", ""))
    if found is None or found[0] == "bytes=-" or max(len(found[1]), len(found[2])) > _DIGITS:
        return None
    if not found[1]:
        start, stop = max(0, size - int(found[2])), size
    else:
        start = int(found[1])
        last = int(found[2]) if found[2] else size - 1
        if found[2] and last < start:
            return None
        stop = min(size, last + 1)
    if start >= stop:
        raise UnsatisfiableRangeError
    return start, stop


def check_conditions(request: Request, identity: _Identity) -> int | None:
    """Return 412 or 304 if a condition is not met, else None (RFC 9110 §13.2.2 order)."""
    headers = request.headers
    if "if-match" in headers:
        if not _lists(headers["if-match"], identity.etag):
            return 412
    elif _since(headers.get("if-unmodified-since"), identity.modified_us) is True:
        return 412
    if "if-none-match" in headers:
        if _lists(headers["if-none-match"], identity.etag):
            return 304
    elif _since(headers.get("if-modified-since"), identity.modified_us) is False:
        return 304
    return None


def _lists(header: str, etag: str) -> bool:
    tags = [tag.strip() for tag in header.split(",")]
    return "*" in tags or etag in tags


def _since(header: str | None, modified_us: int) -> bool | None:
    """Return whether the object changed after the date; None if there is no valid date."""
    if header is None:
        return None
    try:
        moment_us = to_us(parsedate_to_datetime(header))
    except (ValueError, TypeError):
        return None
    return modified_us // US > moment_us // US


def _unmet(status: int, identity: _Identity) -> Response:
    if status == 304:
        modified = format_http(identity.modified_us)
        return Response(304, (("ETag", identity.etag), ("Last-Modified", modified)))
    words = "At least one of the pre-conditions you specified did not hold."
    return _xml(links.LinkRefusedError(412, "PreconditionFailed", words, "If-Match"))


def _moved(etag: str) -> str:
    return f'"{hashlib.md5(etag.encode(), usedforsecurity=False).hexdigest()}"'


def _xml(error: links.LinkRefusedError) -> Response:
    details = f"<Details>{escape(error.details)}</Details>" if error.details else ""
    body = (
        f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{error.code}</Code>"
        f"<Message>{escape(error.message)}</Message>{details}</Error>"
    )
    media_type = ("Content-Type", "application/xml; charset=UTF-8")
    return Response(error.status, (media_type,), body.encode())


def object_path(request: Request) -> str:
    """Return the path of the object, without the redirection's prefix."""
    return request.path.removeprefix(REDIRECTED)


def route(method: str) -> Endpoint:
    """Return the store's only route, for every path and method."""
    name = {"GET": "store.get", "HEAD": "store.head"}.get(method, "store.other")
    return Endpoint(method, "*", name, _serve, is_public=True)
