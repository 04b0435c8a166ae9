"""Claims: at most one live holder a key, and no tag use that is never given back."""

from hypothesis import given
from hypothesis import strategies as st

from clusterdb.cache.claims import Claim, Claims
from clusterdb.cache.tags import TagStates


def test_only_the_holder_of_a_live_claim_may_fill():
    tags = TagStates()
    claims = Claims(tags)
    first = claims.take("k", ("t",))
    assert first is not None
    assert claims.take("k", ()) is None
    tags.invalidate("t")
    second = claims.take("k", ("t",))
    assert second is not None

    assert (claims.holds(first), claims.holds(second)) == (False, True)
    assert first.dropped
    claims.release(first)
    assert claims.holds(second)


def test_a_claim_of_another_table_is_no_claim():
    tags = TagStates()
    here, there = Claims(tags), Claims(tags)
    claim = there.take("k", ())
    assert claim is not None
    here.take("k", ())

    assert not here.holds(claim)
    here.release(claim)
    assert len(here) == 1


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["take", "extend", "drop", "release", "invalidate", "clear"]),
            st.sampled_from("kl"),
            st.sampled_from("tu"),
        )
    )
)
def test_at_most_one_lives_and_tags_are_given_back(steps):
    tags = TagStates()
    claims = Claims(tags)
    taken: list[Claim] = []
    for step, key, tag in steps:
        if step == "take":
            claim = claims.take(key, (tag,))
            assert (claim is None) == any(claims.holds(c) and c.key == key for c in taken)
            taken += [] if claim is None else [claim]
        elif step == "extend" and taken:
            claims.extend(taken[-1], (tag,))
        elif step == "drop":
            claims.drop(key)
        elif step == "release" and taken:
            claims.release(taken[0])
        elif step == "invalidate":
            tags.invalidate(tag)
        elif step == "clear":
            claims.clear()
        held = [claim for claim in taken if claims.holds(claim)]
        assert len({claim.key for claim in held}) == len(held)
        states = [state for claim in claims._claims.values() for state in claim.tags]
        live = [state for state in states if state.live]
        assert tags.uses() == {state.name: live.count(state) for state in live}
    claims.clear()
    assert len(tags) == 0
