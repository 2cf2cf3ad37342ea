import errno
import math
from urllib.parse import parse_qs

import httpx
import pytest
import trio
from api_helpers import PASSWORD, Bench, reply, script
from trio.testing import MockClock

from up42fs.api.auth import MOST_TOKEN, Credentials, TokenSource
from up42fs.errors import (
    AccessDenied,
    ConfigurationError,
    InvalidAnswer,
    Offline,
    SignInFailed,
    Unavailable,
    Up42fsError,
)

REFUSAL = reply({"error": "invalid_grant", "error_description": "Invalid user credentials"}, 401)


def unused(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"unexpected request to {request.url}")


async def test_the_password_grant_is_what_the_contract_says() -> None:
    bench = Bench(unused)
    assert await bench.tokens.token() == "token1"
    (request,) = bench.service.sign_ins
    assert request.method == "POST"
    assert str(request.url) == ("https://auth.up42.com/realms/public/protocol/openid-connect/token")
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["user-agent"].startswith("up42fs/")
    assert "authorization" not in request.headers
    assert parse_qs(request.content.decode()) == {
        "grant_type": ["password"],
        "username": ["me@example.com"],
        "password": [PASSWORD],
        "client_id": ["up42-api"],
        "scope": ["openid"],
    }


async def test_fifty_callers_make_one_request(autojump_clock: MockClock) -> None:
    bench = Bench(unused)

    async def slow(request: httpx.Request) -> httpx.Response:
        await trio.sleep(1)
        return reply({"access_token": "abc", "expires_in": 300})

    bench.service.on_sign_in = slow
    found: list[str] = []

    async def ask() -> None:
        found.append(await bench.tokens.token())

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(ask)
    assert found == ["abc"] * 50
    assert bench.metrics["auth.requests"] == len(bench.service.sign_ins) == 1


async def ask_together(bench: Bench, count: int) -> list[Up42fsError]:
    errors: list[Up42fsError] = []

    async def ask() -> None:
        try:
            await bench.tokens.token()
        except Up42fsError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(ask)
    return errors


async def test_fifty_callers_with_a_wrong_password_are_one_request(
    autojump_clock: MockClock,
) -> None:
    bench = Bench(unused)

    async def slow_refusal(request: httpx.Request) -> httpx.Response:
        await trio.sleep(1)
        return script(REFUSAL)(request)  # type: ignore[return-value]

    bench.service.on_sign_in = slow_refusal
    errors = await ask_together(bench, 50)
    assert [type(error) for error in errors] == [SignInFailed] * 50
    assert len({id(error) for error in errors}) == 50
    assert len(bench.service.sign_ins) == 1


async def test_a_refusal_is_repeated_for_a_minute_then_asked_again(
    autojump_clock: MockClock,
) -> None:
    bench = Bench(unused)
    bench.service.on_sign_in = script(REFUSAL, ({"access_token": "ok", "expires_in": 300}, 200))
    for _ in range(3):
        with pytest.raises(SignInFailed):
            await bench.tokens.token()
        await trio.sleep(10)
    assert len(bench.service.sign_ins) == 1
    await trio.sleep(31)
    assert await bench.tokens.token() == "ok"
    assert len(bench.service.sign_ins) == 2


async def test_an_outage_is_told_to_everybody_waiting_and_tried_anew_after(
    autojump_clock: MockClock,
) -> None:
    bench = Bench(unused)
    bench.service.on_sign_in = script(httpx.ConnectError("no route"))
    errors = await ask_together(bench, 20)
    assert [type(error) for error in errors] == [Offline] * 20
    assert len(bench.service.sign_ins) == 2
    bench.service.on_sign_in = script(({"access_token": "ok", "expires_in": 300}, 200))
    assert await bench.tokens.token() == "ok"


async def test_the_impatient_do_not_speak_for_those_behind_them(
    autojump_clock: MockClock,
) -> None:
    bench = Bench(unused)
    bench.service.on_sign_in = script(
        *[httpx.ReadError("reset")] * 3, ({"access_token": "ok", "expires_in": 300}, 200)
    )
    found: list[object] = []

    async def ask(timeout_s: float) -> None:
        with trio.move_on_after(timeout_s):
            try:
                found.append(await bench.tokens.token())
            except Unavailable as error:
                found.append(type(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, 0.2)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask, math.inf)
    assert found == [Unavailable, "ok"]


async def test_a_cancelled_leader_leaves_the_work_to_the_next(autojump_clock: MockClock) -> None:
    bench = Bench(unused)

    async def slow(request: httpx.Request) -> httpx.Response:
        await trio.sleep(5)
        return reply({"access_token": "abc", "expires_in": 300})

    bench.service.on_sign_in = slow
    found: list[str] = []

    async def follow() -> None:
        found.append(await bench.tokens.token())

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1):
            nursery.start_soon(follow)
            await bench.tokens.token()
    assert found == ["abc"]


@pytest.mark.parametrize(("life_s", "fresh_s"), [(300, 270), (10, 8), ("300", 270), (None, 270)])
async def test_a_token_is_renewed_ahead_of_its_end(
    autojump_clock: MockClock, life_s: object, fresh_s: float
) -> None:
    bench = Bench(unused, token_life_s=life_s)
    assert await bench.tokens.token() == "token1"
    await trio.sleep(fresh_s - 0.1)
    assert await bench.tokens.token() == "token1"
    await trio.sleep(0.2)
    assert await bench.tokens.token() == "token2"


async def test_its_life_counts_from_before_the_request(autojump_clock: MockClock) -> None:
    bench = Bench(unused)

    async def slow(request: httpx.Request) -> httpx.Response:
        await trio.sleep(11)
        return reply({"access_token": f"t{len(bench.service.sign_ins)}", "expires_in": 10})

    bench.service.on_sign_in = slow
    assert await bench.tokens.token() == "t1"
    assert await bench.tokens.token() == "t2"


async def test_an_ageing_token_serves_while_the_identity_server_is_away(
    autojump_clock: MockClock,
) -> None:
    bench = Bench(unused)
    assert await bench.tokens.token() == "token1"
    bench.service.on_sign_in = script(httpx.ConnectError("no route"))
    await trio.sleep(280)
    for _ in range(10):
        assert await bench.tokens.token() == "token1"
    assert len(bench.service.sign_ins) == 3  # one renewal, two attempts, then a pause
    await trio.sleep(21)
    with pytest.raises(Offline):
        await bench.tokens.token()


async def test_an_ageing_token_serves_while_the_identity_server_hangs(
    autojump_clock: MockClock,
) -> None:
    bench = Bench(unused)
    await bench.tokens.token()

    async def hang(request: httpx.Request) -> httpx.Response:
        await trio.sleep_forever()
        raise AssertionError

    bench.service.on_sign_in = hang
    await trio.sleep(280)
    with trio.fail_after(11):
        assert await bench.tokens.token() == "token1"


async def test_only_the_refused_token_is_discarded() -> None:
    bench = Bench(unused)
    assert await bench.tokens.token() == "token1"
    bench.tokens.discard("another")
    assert await bench.tokens.token() == "token1"
    bench.tokens.discard("token1")
    assert await bench.tokens.token() == "token2"
    bench.tokens.discard("token1")
    assert await bench.tokens.token() == "token2"


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_wrong_credentials_say_whose_and_what_to_check(status: int) -> None:
    bench = Bench(unused)
    bench.service.on_sign_in = script(
        reply({"error": "invalid_grant", "error_description": "Invalid user credentials"}, status)
    )
    with pytest.raises(SignInFailed) as caught:
        await bench.tokens.token()
    words = str(caught.value)
    assert words.startswith("UP42 refused the user name or password of me@example.com")
    assert "Invalid user credentials" in words
    assert "check UP42_USERNAME and UP42_PASSWORD" in words


@pytest.mark.claim("S165")
@pytest.mark.parametrize("status", [400, 401])
async def test_a_scope_that_is_refused_is_left_out(status: int) -> None:
    bench = Bench(unused)

    def sign_in(request: httpx.Request) -> httpx.Response:
        if b"scope" in request.content:
            return reply({"error": "invalid_scope", "error_description": "no openid"}, status)
        return reply({"access_token": f"token{len(bench.service.sign_ins)}", "expires_in": 300})

    bench.service.on_sign_in = sign_in
    assert await bench.tokens.token() == "token2"
    bench.tokens.discard("token2")
    assert await bench.tokens.token() == "token3", "the way that works is kept"


@pytest.mark.claim("S165")
@pytest.mark.parametrize("code", ["invalid_client", "unauthorized_client"])
async def test_a_client_that_is_refused_is_not_the_only_one(code: str) -> None:
    bench = Bench(unused)

    def sign_in(request: httpx.Request) -> httpx.Response:
        if b"up42-sdk" in request.content:
            return reply({"access_token": "good", "expires_in": 300})
        return reply({"error": code, "error_description": "not this client"}, 401)

    bench.service.on_sign_in = sign_in
    assert await bench.tokens.token() == "good"


@pytest.mark.claim("S165")
@pytest.mark.parametrize("code", ["invalid_scope", "unsupported_grant_type", "invalid_request"])
async def test_what_is_no_wrong_password_is_not_called_so(code: str) -> None:
    bench = Bench(unused)
    bench.service.on_sign_in = script(
        reply({"error": code, "error_description": f"words {PASSWORD}"}, 400)
    )
    with pytest.raises(SignInFailed) as caught:
        await bench.tokens.token()
    words = str(caught.value)
    assert "refused the user name or password" not in words
    assert code in words
    assert "UP42_AUTH_URL" in words
    assert PASSWORD not in words
    assert len(bench.service.sign_ins) == 3
    with pytest.raises(SignInFailed):
        await bench.tokens.token()
    assert len(bench.service.sign_ins) == 3, "a refusal is remembered"


async def test_the_password_is_never_repeated() -> None:
    bench = Bench(unused)
    bench.service.on_sign_in = script(
        reply({"error": "x", "error_description": f"bad {PASSWORD}"}, 401)
    )
    with pytest.raises(SignInFailed) as caught:
        await bench.tokens.token()
    error: BaseException | None = caught.value
    assert PASSWORD not in str(error)
    assert PASSWORD not in repr(Credentials("me", PASSWORD))
    assert error is not None
    assert error.__cause__ is None


@pytest.mark.parametrize(
    "document",
    [{}, {"access_token": None}, {"access_token": ""}, {"access_token": "a\r\nX: y"}],
)
async def test_an_answer_without_a_usable_token_is_an_error(document: object) -> None:
    bench = Bench(unused)
    bench.service.on_sign_in = script((document, 200))
    with pytest.raises(InvalidAnswer, match="UP42_AUTH_URL"):
        await bench.tokens.token()


@pytest.mark.claim("S142")
@pytest.mark.parametrize("length", [MOST_TOKEN + 1, 5_000_000])
async def test_a_token_without_end_is_sent_nowhere(length: int) -> None:
    bench = Bench(unused)
    bench.service.on_sign_in = script(({"access_token": "x" * length}, 200))
    with pytest.raises(InvalidAnswer, match=f"a token of {length} characters") as caught:
        await bench.client.asset("00000000-0000-0000-0000-000000000001")
    assert len(str(caught.value)) < 300
    longest = Bench(unused)
    longest.service.on_sign_in = script(({"access_token": "x" * MOST_TOKEN}, 200))
    assert await longest.tokens.token() == "x" * MOST_TOKEN


@pytest.mark.parametrize("life_s", [0, -5, True, "soon", [], 10**400, 1e300])
async def test_an_odd_lifetime_counts_as_five_minutes(
    autojump_clock: MockClock, life_s: object
) -> None:
    bench = Bench(unused, token_life_s=life_s)
    await bench.tokens.token()
    await trio.sleep(269)
    assert await bench.tokens.token() == "token1"
    await trio.sleep(2)
    assert await bench.tokens.token() == "token2"


async def test_a_busy_identity_server_is_asked_again(autojump_clock: MockClock) -> None:
    bench = Bench(unused)
    bench.service.on_sign_in = script(
        ({}, 503), reply({}, 429, retry_after="2"), ({"access_token": "ok", "expires_in": 9}, 200)
    )
    assert await bench.tokens.token() == "ok"
    assert bench.metrics["auth.requests"] == 3
    assert bench.metrics["auth.retries"] == 2
    assert bench.metrics["auth.throttled"] == 1


def test_an_unencrypted_identity_server_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="UP42_AUTH_URL"):
        TokenSource(httpx.AsyncClient(), "http://auth.up42.com", Credentials("a", "b"))


REFUSALS = {400, 401, 403}


@pytest.mark.claim("S374")
@pytest.mark.parametrize("count", [1, 2, 3, None])
async def test_only_a_refusal_of_the_identity_server_is_one(
    autojump_clock: MockClock, count: int | None
) -> None:
    """A token is revoked, and its successor meets every status, so often or always."""
    for status in range(200, 600):
        bench = Bench(lambda request: reply(SIGNED, 401 if revoked(request) else 200))
        assert await bench.tokens.token() == "token1"
        page = httpx.Response(status, html="<h1>503</h1>")
        token = {"access_token": "token2", "expires_in": 300}
        bench.service.on_sign_in = script(*[page] * (count or 1), *[(token, 200)] * bool(count))
        error = await caught(bench)
        if status in REFUSALS:
            assert type(error) is SignInFailed, status
        elif count is None:
            assert isinstance(error, Unavailable), status
        else:
            assert error is None, (status, error)


@pytest.mark.claim("S374")
@pytest.mark.parametrize(
    ("answer", "errno_"),
    [
        (httpx.ConnectError("refused"), errno.ENETUNREACH),
        (httpx.ReadTimeout("silent"), errno.ETIMEDOUT),
        (httpx.ReadError("reset"), errno.EIO),
        (httpx.RemoteProtocolError("short body"), errno.EIO),
        (reply({"access_token": None}), errno.EIO),
        (reply({"data": None, "error": {"code": 401, "message": "legacy"}}), errno.EIO),
    ],
)
async def test_an_identity_server_that_fails_otherwise_refuses_nobody(
    autojump_clock: MockClock, answer: httpx.Response | Exception, errno_: int
) -> None:
    bench = Bench(lambda request: reply(SIGNED, 401 if revoked(request) else 200))
    await bench.tokens.token()
    bench.service.on_sign_in = script(answer)
    error = await caught(bench)
    assert error is not None
    assert error.errno == errno_


@pytest.mark.claim("S374")
async def test_a_token_that_was_replaced_before_the_refusal_is_not_the_last(
    autojump_clock: MockClock,
) -> None:
    """Two tokens, ended together while a request with the first is under way."""
    begun, ended = trio.Event(), trio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        begun.set()
        await ended.wait()
        token = request.headers["authorization"].removeprefix("Bearer ")
        return reply(SIGNED, 200 if token == "token3" else 401)

    bench = Bench(answer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.client.sign, "some-asset")
        await begun.wait()
        bench.tokens.discard("token1")
        assert await bench.tokens.token() == "token2"
        ended.set()
    assert bench.service.bearers == [f"Bearer token{number}" for number in (1, 2, 3)]


async def test_an_api_that_refuses_each_token_is_believed(autojump_clock: MockClock) -> None:
    bench = Bench(lambda _: reply(SIGNED, 401))
    assert type(await caught(bench)) is AccessDenied
    assert len(bench.service.requests) == len(bench.service.sign_ins) == 2


SIGNED = {"url": "https://storage.example/object?Signature=abc&Expires=1700000300"}


def revoked(request: httpx.Request) -> bool:
    return bool(request.headers["authorization"] == "Bearer token1")


async def caught(bench: Bench) -> Up42fsError | None:
    try:
        await bench.client.sign("some-asset")
    except Up42fsError as error:
        return error
    return None
