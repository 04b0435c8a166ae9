"""The two checkers of linearizability: known histories, and every order tried on small ones."""

from __future__ import annotations

import random
from itertools import permutations
from math import inf

import pytest
from tests.coherence.linear import Step, linearizable, zones


def read(value, start, end):
    return Step("read", value, start, end)


def write(value, start, end=inf):
    return Step("write", value, start, end)


def delete(start, end=inf):
    return Step("delete", None, start, end)


def cas(expected, value, start, end=inf):
    return Step("cas", value, start, end, expected)


def refused(expected, start, end):
    return Step("refused", None, start, end, expected)


GOOD = {
    "nothing": [],
    "one after the other": [write(1, 0, 1), read(1, 2, 3), write(2, 4, 5), read(2, 6, 7)],
    "a read at the same time sees the old": [write(1, 0, 1), write(2, 2, 5), read(1, 3, 4)],
    "a read at the same time sees the new": [write(1, 0, 1), write(2, 2, 5), read(2, 3, 4)],
    "two writes at once, either may win": [write(1, 0, 3), write(2, 0, 3), read(1, 4, 5)],
    "an unknown write that is late": [write(1, 0, 1), write(2, 2), read(1, 3, 4), read(2, 9, 10)],
    "an unknown write never takes effect": [write(1, 0, 1), write(2, 2), read(1, 8, 9)],
    "a delete": [write(1, 0, 1), delete(2, 3), read(None, 4, 5)],
    "compare and set": [write(1, 0, 1), cas(1, 2, 2, 3), refused(1, 4, 5), read(2, 6, 7)],
    "a refusal that an unknown write explains": [write(1, 0, 1), write(2, 2), refused(1, 4, 5)],
}  # fmt: skip

BAD = {
    "an old value": [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)],
    "a value from the future": [read(1, 0, 1), write(1, 2, 3)],
    "a value nobody wrote": [write(1, 0, 1), read(7, 2, 3)],
    "new, then old": [write(1, 0, 1), write(2, 2, 9), read(2, 3, 4), read(1, 5, 6)],
    "absent after an acknowledged write": [write(1, 0, 1), read(None, 2, 3)],
    "back after a delete": [write(1, 0, 1), delete(2, 3), read(1, 4, 5)],
    "an unknown write comes and goes": [write(1, 0, 1), write(2, 2), read(2, 3, 4), read(1, 5, 6)],
    "a compare and set of what is gone": [write(1, 0, 1), write(2, 2, 3), cas(1, 3, 4, 5)],
    "a refusal without a reason": [write(1, 0, 1), refused(1, 2, 3)],
    "two compare and sets of one value": [write(1, 0, 1), cas(1, 2, 2, 3), cas(1, 3, 4, 5)],
}  # fmt: skip


def judged_by_zones(steps):
    return all(step.action in ("read", "write") for step in steps)


@pytest.mark.parametrize("name", GOOD)
def test_good_histories_pass(name):
    assert linearizable(GOOD[name]) is True
    if judged_by_zones(GOOD[name]):
        assert zones(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_bad_histories_fail(name):
    assert linearizable(BAD[name]) is False
    if judged_by_zones(BAD[name]):
        assert not zones(BAD[name])


def by_trying_all(steps):
    """Every order of every subset that leaves out only unknown calls."""
    certain = [step for step in steps if step.end < inf]
    unknown = [step for step in steps if step.end == inf]
    for chosen in range(1 << len(unknown)):
        taken = certain + [step for at, step in enumerate(unknown) if chosen >> at & 1]
        if any(explains(order) for order in permutations(taken)):
            return True
    return False


def explains(order):
    value = None
    for at, step in enumerate(order):
        if any(later.end < step.start for later in order[at + 1 :]):
            return False
        if step.action == "read" and step.value != value:
            return False
        if step.action == "refused" and step.expected == value:
            return False
        if step.action == "cas" and step.expected != value:
            return False
        if step.action not in ("read", "refused"):
            value = step.value
    return True


def small_history(chance, *, only_writes):
    """Calls with times that often touch and overlap."""
    steps, values = [], [None, 1, 2, 3]
    fresh = iter(range(1, 10))
    for _ in range(chance.randint(2, 5)):
        start = chance.randint(0, 8)
        end = start + chance.randint(0, 4)
        actions = ["read", "read", "write"] + ([] if only_writes else ["delete", "cas", "refused"])
        action = chance.choice(actions)
        if action == "read":
            steps.append(read(chance.choice(values), start, end))
        elif action == "refused":
            steps.append(refused(chance.choice(values[1:]), start, end))
        else:
            lost = inf if chance.random() < 0.2 else end
            made = {
                "write": lambda: write(next(fresh), start, lost),  # noqa: B023
                "delete": lambda: delete(start, lost),  # noqa: B023
                "cas": lambda: cas(chance.choice(values), next(fresh), start, lost),  # noqa: B023
            }
            steps.append(made[action]())
    return steps


@pytest.mark.parametrize("only_writes", [True, False])
def test_both_agree_with_trying_all_orders(only_writes):
    chance = random.Random(4)
    verdicts = []
    for _ in range(2500):
        steps = small_history(chance, only_writes=only_writes)
        expected = by_trying_all(steps)
        assert linearizable(steps) is expected, steps
        if only_writes:
            assert zones(steps) is expected, steps
        verdicts.append(expected)
    assert 300 < sum(verdicts) < 2200  # both verdicts were exercised


def simulated(chance, operations, clients, *, stale=0.0, unknown=0.0):
    """A register that takes effect at some instant within each call."""
    value, before, now, steps = None, None, 0.0, []
    free = [0.0] * clients
    for number in range(1, operations + 1):
        client = min(range(clients), key=free.__getitem__)
        now = max(now + chance.random(), free[client])
        start, end = now - chance.random() * 2, now + chance.random() * 2
        start = max(start, free[client])
        free[client] = end
        if chance.random() < 0.5:
            lost = chance.random() < unknown
            steps.append(write(number, start, inf if lost else end))
            if not lost or chance.random() < 0.5:
                before, value = value, number
        else:
            seen = before if chance.random() < stale else value
            steps.append(read(seen, start, end))
    return steps


def test_both_agree_on_long_histories():
    chance = random.Random(7)
    verdicts = []
    for _ in range(150):
        stale, unknown = chance.choice([0, 0.02]), chance.choice([0, 0.1])
        steps = simulated(chance, 200, 5, stale=stale, unknown=unknown)
        verdicts.append(zones(steps))
        assert linearizable(steps) is verdicts[-1]
    assert 20 < sum(verdicts) < 140


def test_a_search_that_is_too_long_says_so():
    chance = random.Random(1)
    steps = simulated(chance, 500, 30, stale=0.3)
    assert linearizable(steps, limit=3) in (None, False)
    assert linearizable([write(1, 0, 1), write(2, 0, 1), write(3, 0, 1)], limit=1) is None


def test_zones_refuse_what_they_cannot_judge():
    with pytest.raises(ValueError, match="twice"):
        zones([write(1, 0, 1), write(1, 2, 3)])
    with pytest.raises(ValueError, match="delete"):
        zones([delete(0, 1)])
