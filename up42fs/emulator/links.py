"""Presigned links: made for the API, checked for the store (contract §3.5, §6).

Two styles: Google's V2 (`GoogleAccessId`, `Expires`, `Signature`) and V4 (`X-Goog-*`). The
signature is a keyed digest over the method class (GET includes HEAD), the path and the expiry; in
V4 it covers the whole query, as Google's does. Knows nothing of ranges and bodies.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from up42fs.emulator.clock import US, from_us
from up42fs.emulator.wire import Request

SIGNER = "asset-service@interstellar-prod-env.iam.gserviceaccount.com"


class LinkRefusedError(Exception):
    """A refused request: `status`, XML `code`, `message`, optional `details`."""

    def __init__(self, status: int, code: str, message: str, details: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.details = status, code, message, details


def make_v2(
    secret: bytes, store_url: str, path: str, disposition: str | None, expires_at_s: float
) -> str:
    """Return a V2 link to the object at `path` that expires at `expires_at_s` (Unix seconds)."""
    expires = str(int(expires_at_s))
    parts = []
    if disposition is not None:
        parts.append(f"response-content-disposition={quote(disposition, safe='')}")
    parts.append(f"GoogleAccessId={SIGNER}")
    parts.append(f"Expires={expires}")
    parts.append(f"Signature={quote(_v2_signature(secret, 'GET', path, expires), safe='')}")
    return f"{store_url}{quote(path)}?{'&'.join(parts)}"


def make_v4(
    secret: bytes,
    store_url: str,
    path: str,
    disposition: str | None,
    now_us: int,
    life_s: float,
) -> str:
    """Return a V4 link to the object at `path` that is valid for `life_s` seconds from `now_us`."""
    signed = from_us(now_us).strftime("%Y%m%dT%H%M%SZ")
    query = {
        "X-Goog-Algorithm": "GOOG4-RSA-SHA256",
        "X-Goog-Credential": f"{SIGNER}/{signed[:8]}/auto/storage/goog4_request",
        "X-Goog-Date": signed,
        "X-Goog-Expires": str(max(1, int(life_s))),
        "X-Goog-SignedHeaders": "host",
    }
    if disposition is not None:
        query["response-content-disposition"] = disposition
    query["X-Goog-Signature"] = _v4_signature(secret, "GET", path, query)
    return f"{store_url}{quote(path)}?{urlencode(query, quote_via=quote, safe='')}"


def check(secret: bytes, request: Request, path: str, now_s: float, wording: str) -> None:
    """Raise `LinkRefusedError` unless the link is valid and unexpired, without unsigned headers."""
    query = dict(request.query)
    if "X-Goog-Signature" in query:
        _refuse_headers(request, is_v4=True)
        _check_v4(secret, request.method, path, query, now_s, wording)
        return
    if "Signature" not in query or "Expires" not in query:
        raise LinkRefusedError(
            403, "AccessDenied", "Access denied.",
            "Anonymous caller does not have storage.objects.get access to the object.",
        )  # fmt: skip
    _refuse_headers(request, is_v4=False)
    _check_v2(secret, request.method, path, query, now_s, wording)


def _check_v2(
    secret: bytes, method: str, path: str, query: dict[str, str], now_s: float, wording: str
) -> None:
    expires = query["Expires"]
    if not expires.isdecimal() or len(expires) > 15:
        raise LinkRefusedError(400, "InvalidArgument", "Invalid argument.")
    if query.get("GoogleAccessId") != SIGNER:
        raise LinkRefusedError(403, "AccessDenied", "Access denied.", "Unknown signer.")
    if now_s >= int(expires):
        raise _expired(int(expires), wording)
    if not hmac.compare_digest(
        _v2_signature(secret, _method_class(method), path, expires), query["Signature"]
    ):
        raise _mismatch()


def _check_v4(
    secret: bytes, method: str, path: str, query: dict[str, str], now_s: float, wording: str
) -> None:
    given = query.pop("X-Goog-Signature")
    try:
        signed = datetime.strptime(query["X-Goog-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        expires_at_s = signed.timestamp() + int(query["X-Goog-Expires"])
    except (KeyError, ValueError):
        raise LinkRefusedError(400, "InvalidArgument", "Invalid argument.") from None
    if now_s >= expires_at_s:
        raise _expired(int(expires_at_s), wording)
    if not hmac.compare_digest(_v4_signature(secret, _method_class(method), path, query), given):
        raise _mismatch()


def _refuse_headers(request: Request, is_v4: bool) -> None:
    """Refuse unsigned headers, for which Google returns signature errors."""
    headers = request.headers
    if "authorization" in headers:
        raise LinkRefusedError(
            400, "InvalidArgument", "Invalid argument.",
            "Only one authentication mechanism is allowed: signed URL or Authorization.",
        )  # fmt: skip
    if any(name.startswith("x-goog-") for name in headers):
        if is_v4:
            raise LinkRefusedError(
                400, "MalformedSecurityHeader", "Your request has a malformed header.",
                "Header was included in the request, but not in signedheaders.",
            )  # fmt: skip
        raise _mismatch()
    if "content-type" in headers or "content-md5" in headers:
        raise _mismatch()


def _method_class(method: str) -> str:
    return "GET" if method == "HEAD" else method


def _v2_signature(secret: bytes, method: str, path: str, expires: str) -> str:
    text = f"{method}\n\n\n{expires}\n{path}"
    # As long as an RSA-2048 signature, so that links have a realistic length.
    digest = b"".join(hmac.digest(secret, f"{n}{text}".encode(), "sha256") for n in range(8))
    return base64.b64encode(digest).decode()


def _v4_signature(secret: bytes, method: str, path: str, query: dict[str, str]) -> str:
    text = f"{method}\n{path}\n{sorted(query.items())}"
    hashed = hashlib.sha256(text.encode()).digest()
    return b"".join(hmac.digest(secret, hashed + bytes([n]), "sha256") for n in range(8)).hex()


def _expired(expires_at_s: int, wording: str) -> LinkRefusedError:
    moment = from_us(expires_at_s * US).isoformat()
    if wording == "old":
        return LinkRefusedError(
            400, "ExpiredToken", "The provided token has expired.",
            f"Request signature expired at: {moment}",
        )  # fmt: skip
    return LinkRefusedError(
        400, "ExpiredToken", "Invalid argument.",
        f"The provided token has expired. Request signature expired at: {moment}",
    )  # fmt: skip


def _mismatch() -> LinkRefusedError:
    return LinkRefusedError(
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check "
        "your Google secret key and signing method.",
    )
