"""Tokens: grants, expiry, refusals."""

from __future__ import annotations

import httpx
import pytest
from emulator_support import FORM, TOKEN_PATH, Emulator, Start

USERINFO = "/realms/public/protocol/openid-connect/userinfo"


async def _token(emulator: Emulator, **form: str) -> httpx.Response:
    return await emulator.client.post(emulator.urls.auth_url + TOKEN_PATH, data=form)


async def test_password_grant_answers_as_documented(emulator: Emulator) -> None:
    answer = (await _token(emulator, **FORM)).json()
    assert set(answer) == {
        "access_token", "expires_in", "refresh_expires_in", "refresh_token", "token_type",
        "not-before-policy", "session_state", "scope",
    }  # fmt: skip
    assert (answer["expires_in"], answer["refresh_expires_in"]) == (300, 1800)
    assert len(answer["access_token"].split(".")) == 3
    assert "id_token" in (await _token(emulator, **FORM, scope="openid")).json()


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"password": "wrong"}, 401, "invalid_grant"),
        ({"username": "nobody"}, 401, "invalid_grant"),
        ({"client_id": "other"}, 401, "invalid_client"),
        ({"grant_type": "magic"}, 400, "unsupported_grant_type"),
    ],
)
async def test_bad_forms_are_refused(
    emulator: Emulator, change: dict[str, str], status: int, code: str
) -> None:
    answer = await _token(emulator, **{**FORM, **change})
    assert (answer.status_code, answer.json()["error"]) == (status, code)


async def test_a_json_body_is_an_unsupported_media_type(emulator: Emulator) -> None:
    answer = await emulator.client.post(emulator.urls.auth_url + TOKEN_PATH, json=FORM)
    assert answer.status_code == 415


async def test_userinfo_names_the_workspace(emulator: Emulator) -> None:
    url = emulator.urls.auth_url + USERINFO
    assert (await emulator.client.get(url)).status_code == 401
    headers = {"Authorization": f"Bearer {emulator.token}"}
    answer = await emulator.client.get(url, headers=headers)
    asset = (await emulator.get("/v2/assets", size=1))["content"][0]
    assert answer.json()["sub"] == asset["workspaceId"]


async def test_refresh_grant_gives_a_working_token(emulator: Emulator) -> None:
    first = (await _token(emulator, **FORM)).json()
    form = {"grant_type": "refresh_token", "client_id": "up42-api"}
    answer = await _token(emulator, **form, refresh_token=first["refresh_token"])
    emulator.token = answer.json()["access_token"]
    assert (await emulator.api("GET", "/v2/assets")).status_code == 200
    # An access token is no refresh token, and the other way round.
    misused = await _token(emulator, **form, refresh_token=first["access_token"])
    assert (misused.status_code, misused.json()["error"]) == (400, "invalid_grant")
    emulator.token = first["refresh_token"]
    assert (await emulator.api("GET", "/v2/assets")).status_code == 401


async def test_old_tokens_stay_valid_beside_new_ones_until_they_expire(start: Start) -> None:
    emulator = await start(token_life_s=300.0)
    old = emulator.token
    await emulator.sign_in()
    assert old != emulator.token
    emulator.token = old
    assert (await emulator.api("GET", "/v2/assets")).status_code == 200
    await emulator.faults(date_skew_s=301.0)  # the server's clock moves, nobody sleeps
    answer = await emulator.api("GET", "/v2/assets")
    assert answer.status_code == 401
    assert "ACCESS_TOKEN_EXPIRED" in answer.json()["detail"]
    await emulator.sign_in()
    assert (await emulator.api("GET", "/v2/assets")).status_code == 200


async def test_missing_foreign_and_revoked_tokens_are_refused(emulator: Emulator) -> None:
    good = emulator.token
    head, body, digest = good.split(".")
    for bad in ("x", f"{head}.{body}.{digest[::-1]}", f"{head}.{body[:-2]}.{digest}"):
        emulator.token = bad
        assert (await emulator.api("GET", "/v2/orders")).status_code == 401
    emulator.token = good
    await emulator.op("revoke_tokens")
    assert (await emulator.api("GET", "/v2/orders")).status_code == 401
