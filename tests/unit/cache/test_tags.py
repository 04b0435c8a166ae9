"""Tag states are shared, counted and forgotten."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from clusterdb.cache.tags import TagStates


def test_a_state_is_shared_while_it_is_used():
    tags = TagStates()
    [first], [second] = tags.acquire(("t",)), tags.acquire(("t",))

    assert first is second
    assert tags.uses() == {"t": 2}
    tags.release([first, second])
    assert len(tags) == 0
    assert first.live


def test_an_ended_state_is_replaced_and_its_late_users_harm_nothing():
    tags = TagStates()
    [old] = tags.acquire(("t",))
    assert tags.invalidate("t") == 1
    [new] = tags.acquire(("t",))
    tags.release([old])

    assert new is not old
    assert (old.live, new.live) == (False, True)
    assert tags.uses() == {"t": 1}


def test_ending_an_unknown_tag_is_nothing():
    tags = TagStates()

    assert tags.invalidate("t") == 0
    assert len(tags) == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["acquire", "retain", "release", "invalidate"]),
            st.sampled_from("abc"),
        )
    )
)
def test_uses_add_up(steps):
    tags = TagStates()
    held: list[Any] = []
    for step, name in steps:
        if step == "acquire":
            held += tags.acquire((name,))
        elif step == "retain" and held:
            tags.retain([held[0]])
            held.append(held[0])
        elif step == "release" and held:
            tags.release([held.pop()])
        elif step == "invalidate":
            expected = sum([state.live and state.name == name for state in held])
            assert tags.invalidate(name) == expected
        live = [state for state in held if state.live]
        assert tags.uses() == {s.name: live.count(s) for s in live}
        assert len({id(state) for state in live}) == len(tags)
