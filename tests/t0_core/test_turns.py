"""Which process refreshes the catalogue: what a follower does, for any notice and any clock."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from up42fs.catalog.turns import HUNG_S, LOOK_S, SLACK_S, Act, Notice, act, look_s, parse_notice

TIMES = st.floats(0, 1e6)
KINDS = st.sampled_from(["assets", "orders"])
NOTICES = st.builds(
    Notice,
    st.dictionaries(KINDS, TIMES, min_size=1),
    st.dictionaries(KINDS, TIMES),
    st.dictionaries(KINDS, st.text(max_size=20)),
    TIMES,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
)


@given(NOTICES)
def test_a_notice_survives_its_file(notice: Notice) -> None:
    assert parse_notice(json.loads(json.dumps(notice.document()))) == notice


@given(
    JSON | st.fixed_dictionaries({"tried": JSON, "refreshed": JSON, "errors": JSON, "alive": JSON})
)
def test_any_file_is_a_notice_or_none(document: object) -> None:
    found = parse_notice(document)
    assert found is None or isinstance(found.alive_s, float)


@given(st.none() | NOTICES, TIMES, st.floats(0.1, 4000), TIMES, st.none() | TIMES)
def test_what_a_follower_does(
    notice: Notice | None, now_s: float, refresh_s: float, since_s: float, wished_s: float | None
) -> None:
    todo = act(
        notice,
        now_s=now_s,
        refresh_s=refresh_s,
        following_since_s=since_s,
        wished_s=wished_s,
    )
    tried_s = min(notice.tried_s.values()) if notice else None
    if tried_s is not None and 0 <= now_s - tried_s <= refresh_s:
        assert todo is Act.REST  # refreshed in time: nothing is asked of anybody
    if todo is Act.ASK:
        assert wished_s is not None
        assert now_s - wished_s > HUNG_S
        if notice is not None and notice.alive_s <= now_s:
            assert now_s - notice.alive_s > HUNG_S
    if todo is Act.WISH:
        assert wished_s is None or wished_s > now_s


@given(st.floats(1, 4000), st.integers(1, 30), st.floats(0, 1))
def test_followers_of_a_process_that_works_never_ask(
    refresh_s: float, followers: int, late: float
) -> None:
    """The elected one is late by less than the slack: no follower even wishes, in an hour."""
    now_s = tried_s = 1000.0
    wishes = 0
    while now_s < 4600:
        if now_s - tried_s >= refresh_s + late * (SLACK_S - LOOK_S):
            tried_s = now_s
        for number in range(followers):
            todo = act(
                Notice({"assets": tried_s, "orders": tried_s}, alive_s=tried_s),
                now_s=now_s + number / followers,
                refresh_s=refresh_s,
                following_since_s=1000.0,
                wished_s=None,
            )
            wishes += todo is not Act.REST
        now_s += look_s(refresh_s) if refresh_s < 60 else LOOK_S
        if refresh_s > 60:
            now_s += 7
            tried_s = max(tried_s, now_s - refresh_s)
    assert wishes == 0


@given(st.floats(0.01, 1e5))
def test_looks_are_seldom_and_in_time(refresh_s: float) -> None:
    assert 0.1 <= look_s(refresh_s) <= LOOK_S
