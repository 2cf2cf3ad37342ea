"""The identity server: tokens by password or refresh grant, and userinfo (contract §1.2, §1.3).

Tokens carry their own expiry and a keyed digest, so that the server stores none and old ones stay
valid beside new ones. Knows nothing of assets.
"""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any
from urllib.parse import parse_qsl

from up42fs.emulator.service import ApiError, EmulatedService, Endpoint, ReceivedCall, json_response
from up42fs.emulator.storage import stable_id
from up42fs.emulator.wire import Response

REFRESH_LIFE_S = 1800.0
CLIENTS = ("up42-api", "up42-sdk")
_REALM = "/realms/public/protocol/openid-connect"


def issue(service: EmulatedService, kind: str, life_s: float) -> str:
    """Return a token of `kind` (access, refresh, id) in the form of a JWT."""
    now_s = service.now_s()
    claims = {
        "typ": kind,
        "sub": service.storage.account.workspace_id,
        "iat": now_s,
        "exp": now_s + life_s,
    }
    body = ".".join(_encode(json.dumps(part)) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return f"{body}.{_digest(service, body)}"


def require_token(
    service: EmulatedService, authorization: str | None, kind: str = "access"
) -> None:
    """Raise a 401 `ApiError` unless `authorization` is a bearer token valid now."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise ApiError(401, "Full authentication is required to access this resource.")
    _check(service, token, kind)


def _check(service: EmulatedService, token: str, kind: str) -> None:
    body, _, digest = token.rpartition(".")
    if not hmac.compare_digest(digest, _digest(service, body)):
        raise ApiError(401, "ACCESS_TOKEN_INVALID: the token is not one of ours, or was revoked.")
    claims = json.loads(_decode(body.partition(".")[2]))
    if claims["typ"] != kind:
        raise ApiError(401, "ACCESS_TOKEN_INVALID: the token is of another type.")
    if claims["exp"] <= service.now_s():
        raise ApiError(401, "ACCESS_TOKEN_EXPIRED: JWT expired.")


def _token(call: ReceivedCall) -> Response:
    if not call.request.headers.get("content-type", "").startswith(
        "application/x-www-form-urlencoded"
    ):
        return json_response({"error": "HTTP 415 Unsupported Media Type"}, 415)
    form = dict(parse_qsl(call.request.body.decode("utf-8", "replace")))
    if form.get("client_id") not in CLIENTS:
        return _oauth_error("invalid_client", "Invalid client or Invalid client credentials")
    if form.get("scope") and call.faults.scope_refused:
        return _oauth_error("invalid_scope", f"Invalid scopes: {form['scope']}", 400)
    grant = form.get("grant_type")
    if grant == "password":
        return _by_password(call, form)
    if grant == "refresh_token":
        return _by_refresh(call, form)
    return _oauth_error("unsupported_grant_type", f"Unsupported grant_type {grant}", 400)


def _by_password(call: ReceivedCall, form: dict[str, str]) -> Response:
    account = call.storage.account
    right = form.get("username") == account.username and form.get("password") == account.password
    if not right:
        return _oauth_error("invalid_grant", "Invalid user credentials")
    return _grant(call, form)


def _by_refresh(call: ReceivedCall, form: dict[str, str]) -> Response:
    try:
        _check(call.service, form.get("refresh_token", ""), "refresh")
    except ApiError:
        return _oauth_error("invalid_grant", "Token is not active", 400)
    return _grant(call, form)


def _grant(call: ReceivedCall, form: dict[str, str]) -> Response:
    life_s = call.faults.token_life_s
    answer: dict[str, Any] = {
        "access_token": issue(call.service, "access", life_s),
        "expires_in": int(life_s) if life_s == int(life_s) else life_s,
        "refresh_expires_in": int(REFRESH_LIFE_S),
        "refresh_token": issue(call.service, "refresh", REFRESH_LIFE_S),
        "token_type": "Bearer",
        "not-before-policy": 0,
        "session_state": stable_id("session"),
        "scope": "ACCOUNT_ADMIN USER",
    }
    if "openid" in form.get("scope", "").split():
        answer["id_token"] = issue(call.service, "id", life_s)
        answer["scope"] = "openid ACCOUNT_ADMIN USER"
    response = json_response(answer)
    return Response(200, (*response.headers, ("Cache-Control", "no-store")), response.body)


def _user_info(call: ReceivedCall) -> Response:
    require_token(call.service, call.request.headers.get("authorization"))
    account = call.storage.account
    return json_response(
        {
            "sub": account.workspace_id,
            "email_verified": True,
            "name": "Demo User",
            "preferred_username": account.username,
            "given_name": "Demo",
            "family_name": "User",
            "email": account.username,
        }
    )


def _oauth_error(code: str, words: str, status: int = 401) -> Response:
    return json_response({"error": code, "error_description": words}, status)


def _digest(service: EmulatedService, body: str) -> str:
    return _encode(hmac.digest(service.secret, body.encode(), "sha256"))


def _encode(data: bytes | str) -> str:
    raw = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


ROUTES = (
    Endpoint("POST", f"{_REALM}/token", "auth.token", _token, is_public=True),
    Endpoint("GET", f"{_REALM}/userinfo", "auth.userinfo", _user_info, is_public=True),
)
