"""Looks for broken structure in a table and in the embedded backend.

A table keeps each entry in several places that must agree: the index, the eviction policy, the
timer wheel and the tags' shared states. ``validate_table`` goes through all of them and names what
does not fit. O(n): for tests, after any number of operations, while nobody else uses the table.
"""
# ruff: noqa: SLF001 - it is there to look inside

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator

from ..backends.memory import MemoryBackend
from ..entries import Entry, TagState
from ..policy import Adaptive, Fifo, Lfu, LinkedList, Lru, Policy, Segment
from ..policy.arc import Arc
from ..policy.ghosts import Ghosts
from ..policy.handover import Handover
from ..policy.lirs import Lirs
from ..policy.s3fifo import S3Fifo
from ..policy.segmented import Segmented
from ..policy.shadows import OUT, Shadows
from ..policy.sieve import Sieve
from ..policy.two_queue import TwoQueue
from ..residents import Residents
from ..table import Table
from ..types import FOREVER
from ..wheel import TimerWheel

__all__ = ["BrokenStructure", "validate_backend", "validate_shadows", "validate_table"]

_WIDTH = 64
_LEVELS = 5


class BrokenStructure(AssertionError):
    """Something inside a table does not fit; the message names it."""


def validate_backend(backend: MemoryBackend) -> None:
    """Check every table of ``backend``, and the tag states they share."""
    states: Counter[TagState] = Counter()
    for name, table in backend._tables.items():
        try:
            validate_table(table)
        except BrokenStructure as broken:
            raise BrokenStructure(f"region {name!r}: {broken}") from None
        states.update(_used_states(table))
    registry = backend._tags._states
    for name, state in registry.items():
        _require(state.name == name and state.live, f"tag {name!r} is filed wrong, or dead")
        _require(states[state] > 0, f"tag {name!r} is kept and nothing points to it")
    dead = sum([uses for state, uses in states.items() if not state.live])
    _require(backend._tags.dead == dead, f"{backend._tags.dead} dead uses counted, not {dead}")
    for state, uses in states.items():
        _require(state.uses == uses, f"tag {state.name!r} counts {state.uses} uses, not {uses}")
        kept = registry.get(state.name) is state
        _require(kept == state.live, f"the state of tag {state.name!r} is live: {state.live}")


def validate_table(table: Table) -> None:
    """Check one table: index, limits, weights, policy, wheel and claims.

    Raises :class:`BrokenStructure`, an AssertionError.
    """
    residents = table._residents
    entries = residents.entries
    _require(table._entries is entries, "the table reads another index than it writes")
    for key, entry in entries.items():
        _require(type(key) is str and entry.key == key, f"{entry.key!r} is filed as {key!r}")
        _require(entry.resident, f"{key!r} is in the index, but not marked as resident")
        _require(entry.version > 0, f"{key!r} has no version")
        _require(not math.isnan(entry.deadline), f"{key!r} has a deadline of NaN")
    _validate_limits(residents)
    _validate_policy(residents.policy, entries)
    _validate_wheel(residents._wheel, residents)
    for key, claim in table._claims._claims.items():
        _require(claim.key == key and not claim.dropped, f"the claim on {key!r} is filed wrong")


def _require(sound: bool, message: str) -> None:
    if not sound:
        raise BrokenStructure(message)


def _used_states(table: Table) -> Iterator[TagState]:
    for entry in table._residents.entries.values():
        yield from entry.tags
    for claim in table._claims._claims.values():
        yield from claim.tags


def _validate_limits(residents: Residents) -> None:
    items, weight = len(residents.entries), residents.weight
    total = sum([entry.weight for entry in residents.entries.values()])
    _require(weight == total, f"the weight is {weight}, and the entries add up to {total}")
    most, heaviest = residents.max_items, residents.max_weight
    _require(most is None or items <= most, f"{items} entries, over the limit of {most}")
    _require(heaviest is None or weight <= heaviest, f"weight {weight}, over {heaviest}")


# -- policy


def _validate_policy(policy: Policy, entries: dict[str, Entry]) -> None:
    if not isinstance(policy, Handover):
        _validate_one_policy(policy, entries)
        return
    waiting = {entry.key: entry for entry in policy.waiting}
    _require(waiting.items() <= entries.items(), "an entry that left waits for its new policy")
    _validate_policy(policy.old, waiting)
    taken = {key: entry for key, entry in entries.items() if key not in waiting}
    _validate_policy(policy.new, taken)


def _validate_one_policy(policy: Policy, entries: dict[str, Entry]) -> None:
    _validate_segments(policy, len(entries))
    victim = policy.victim()
    _require(policy.victim() is victim, f"policy {policy.name} changes its mind about the victim")
    ordered = policy.ordered()
    known = {id(entry) for entry in entries.values()}
    held = {id(entry) for entry in ordered}
    _require(len(held) == len(ordered), f"policy {policy.name} holds an entry twice")
    _require(held == known, f"policy {policy.name} holds {len(held)}, {len(known)} are resident")
    _require((victim is None) == (not known), f"policy {policy.name} has no victim, or a stray one")
    _require(victim is None or id(victim) in known, f"the victim of {policy.name} is not resident")
    if isinstance(policy, Lru | Fifo | Lfu):
        first = ordered[0] if ordered else None
        _require(victim is first, f"the victim of {policy.name} is not its first entry")
    if isinstance(policy, Lru):
        _validate_links(policy._recency)
    elif isinstance(policy, Fifo):
        _validate_links(policy._queue)
    elif isinstance(policy, Lfu):
        _validate_buckets(policy)
    else:
        _validate_segments(policy, len(known))  # again: to name a victim may have moved some
        if isinstance(policy, Adaptive) and policy._shadows is not None:
            validate_shadows(policy._shadows)
        _validate_ghosts(policy, entries)


def _validate_segments(policy: Policy, resident: int) -> None:
    """Every segment's links, count and homes."""
    if isinstance(policy, Segmented):
        segments = [policy._window, policy._probation, policy._protected]
        total = sum([segment.count for segment in segments])
        _require(total == resident, f"the segments of {policy.name} hold {total} of {resident}")
    elif isinstance(policy, S3Fifo):
        segments = [policy._small, policy._main]
    elif isinstance(policy, Arc):
        segments = [policy._once, policy._again]
    elif isinstance(policy, TwoQueue):
        segments = [policy._new, policy._main]
    elif isinstance(policy, Sieve | Lirs):
        segments = [policy._queue]
    else:
        return
    for segment in segments:
        _validate_segment(segment)


def _validate_segment(segment: Segment) -> None:
    count = _validate_links(segment)
    _require(count == segment.count, f"a segment counts {segment.count} and links {count}")
    for entry in segment.entries():
        _require(entry.home is segment, f"{entry.key!r} believes to be in another segment")


def _validate_ghosts(policy: Policy, entries: dict[str, Entry]) -> None:
    """A ghost is not resident, and there are as many as may be, at most."""
    kept: list[tuple[Ghosts, int]] = []
    if isinstance(policy, (S3Fifo, TwoQueue)):
        kept = [(policy._ghosts, policy._ghost_size)]
    elif isinstance(policy, Arc):
        kept = [
            (ghosts, policy._capacity) for ghosts in (policy._once_ghosts, policy._again_ghosts)
        ]
    elif isinstance(policy, Lirs):
        kept = [(policy._ghosts, policy._ghost_size)]
        _validate_stack(policy)
    for ghosts, most in kept:
        _require(len(ghosts) <= most, f"{policy.name} has {len(ghosts)} ghosts, over {most}")
        for key in ghosts._keys:
            _require(key not in entries, f"{key!r} is resident and a ghost of {policy.name}")


def _validate_stack(policy: Lirs) -> None:
    lir = [entry for entry in policy._stack.values() if entry is not None and entry.uses]
    _require(len(lir) == policy._lir, f"lirs counts {policy._lir} LIR entries, not {len(lir)}")
    gone = {key for key, entry in policy._stack.items() if entry is None}
    _require(gone == set(policy._ghosts._keys), "the ghosts of lirs are not those in its stack")
    if policy._stack:
        bottom = next(iter(policy._stack.values()))
        _require(bottom is not None and bottom.uses == 1, "the stack of lirs is not pruned")


def validate_shadows(shadows: Shadows) -> None:
    """Check the shadow caches: links, counts, capacities, and that no key is lost in one."""
    for index, shadow in enumerate(shadows._shadows):
        linked = 0
        for segment, head in enumerate(shadow._heads):
            at, count = head.next, 0
            while at is not head:
                _require(at.next.prev is at, f"the links of shadow {index} don't agree")
                _require(at.home == segment, f"a place of shadow {index} has another home")
                at, count = at.next, count + 1
            _require(count == shadow._counts[segment], f"shadow {index} counts a segment wrong")
            linked += count
        _require(linked <= shadow._capacity, f"shadow {index} holds {linked}: too many")
        homes = sum([key.places[index].home != OUT for key in shadows._keys.values()])
        _require(homes == linked, f"shadow {index} links {linked} places, {homes} keys are in it")
    for hashed, key in shadows._keys.items():
        held = sum([place.home != OUT for place in key.places])
        _require(key.hashed == hashed, f"the key of hash {hashed} is filed wrong")
        _require(key.held == held > 0, f"a key counts {key.held} shadows, and is in {held}")


def _validate_links(entries: LinkedList) -> int:
    """The links must agree both ways round the circle; how many entries are on it."""
    head, at, count = entries._head, entries._head, 0
    while True:
        after = at.next
        if after is None or after.prev is not at:
            raise BrokenStructure(f"the links behind {at.key!r} don't agree")
        if after is head:
            return count
        at, count = after, count + 1


def _validate_buckets(policy: Lfu) -> None:
    bucket = policy._head
    while True:
        after = bucket.next
        _require(after.prev is bucket, f"the links behind frequency {bucket.frequency} differ")
        if after is policy._head:
            return
        low, high = bucket.frequency, after.frequency
        _require(low < high, f"frequency {high} comes behind {low}")
        count = _validate_links(after.entries)
        _require(count > 0, f"the bucket of frequency {high} is empty")
        at_home = all(entry.home is after for entry in after.entries.entries())
        _require(at_home, f"an entry of frequency {high} points to another bucket")
        bucket = after


# -- wheel


def _validate_wheel(wheel: TimerWheel, residents: Residents) -> None:
    filed = [entry for _, entry in _filed(wheel)]
    _require(len(filed) == len(wheel), f"the wheel counts {len(wheel)} and files {len(filed)}")
    for entry in filed:
        known = residents.entries.get(entry.key) is entry
        _require(known, f"the wheel files {entry.key!r}, which is not resident")
        due = entry.deadline + residents.grace
        _require(due != FOREVER, f"the wheel files {entry.key!r}, which never expires")
    for index, entry in _filed(wheel):
        _validate_slot(wheel._second, index, entry, entry.deadline + residents.grace)
    mortal = _mortal(residents.entries.values())
    _require(len(filed) == mortal, f"{mortal} entries expire, and the wheel files {len(filed)}")


def _filed(wheel: TimerWheel) -> Iterator[tuple[int, Entry]]:
    """Every entry with the index of its slot, -1 for one that was put aside."""
    slots = [*enumerate(wheel._slots), *[(-1, slot) for slot in wheel._aside]]
    for index, slot in slots:
        for place, entry in enumerate(slot):
            right = entry.slot is slot and entry.place == place
            _require(right, f"{entry.key!r} does not believe to be filed at {index}, {place}")
            yield index, entry


def _mortal(entries: Iterable[Entry]) -> int:
    return sum([entry.deadline != FOREVER for entry in entries])


def _validate_slot(second: int, slot: int, entry: Entry, due: float) -> None:
    """The slot must be opened when ``due`` is over, at the latest a second after."""
    if slot < 0:
        return  # it was opened
    last = math.floor(due) + 1
    level, index = divmod(slot, _WIDTH)
    tick = second // _WIDTH**level + 1  # the next one to be opened
    opens = tick + (index - tick) % _WIDTH
    name = f"{entry.key!r}, due at {due}, is in slot {index} of level {level}"
    _require(opens * _WIDTH**level <= last, f"{name}, which opens too late")
    _require(level > 0 or opens == last, f"{name}, which opens too early")
