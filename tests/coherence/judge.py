"""The invariants, checked on a history: I1, I2, I3, I4, I6, I7, I8 and what belongs to them.

=====  ======================================================================================
I1     a load that began before an invalidation was done is not visible after it (origin keys)
I2     a value was current at some instant of the last ``bound`` seconds before its read began
I3     when changes have stopped, all processes see the same, near or not
I4     reads with ``consistent=True``, writes and compare-and-sets of a key are linearizable
I6     no value is read later than ``bound`` after it was deleted
I7     between two changes a key is loaded once
I8     a process sees what it has written, and that its own change removed; a write of its own
       without an answer undoes no later one
TTL    no value is read after its time to live
age    the bound of the age that ``lookup`` gives is one
lost   a value that was written and never removed is there (not where entries may be lost)
alien  no value is read that was not written, under this key
=====  ======================================================================================

A failover may lose acknowledged changes. A change counts as undone, and is told instead of held
against the readers, where it was acknowledged around the failover, the backend itself then answered
with an older value, and never again with the new one; a removal, where it had not answered since
the failover was over that nothing is there: who made it does it again, and others may see the value
until then. Who removed something and was told so never sees it again, failover or not.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from tests.coherence.changes import Change, Timeline, changes_of
from tests.coherence.history import ABSENT, NEVER, ORIGIN, Call, Kind, Outcome, Tier
from tests.coherence.keys import Key
from tests.coherence.linear import Step, linearizable, zones

__all__ = ["Terms", "Verdict", "Window", "judge"]

MS = 1_000_000
_TTL_SLACK = 5 * MS  # servers count whole milliseconds
_LAG = 2_000 * MS  # what was acknowledged so long before a failover may be lost with it
_EXAMPLES = 5
_SEARCH = 300_000

_SINGLE = (Kind.GET, Kind.FRESH, Kind.SET, Kind.DELETE, Kind.INVALIDATE)  # one round trip
_BUMPS = (Kind.BUMP, Kind.BUMP_TAG)
_REMOVALS = (Kind.DELETE, Kind.INVALIDATE)


class Window(NamedTuple):
    """The time of one fault, in nanoseconds. ``fails_over``: another server may take charge."""

    fault: str
    start: int
    end: int
    fails_over: bool = False


@dataclass(frozen=True)
class Terms:
    """What was promised. ``bound`` in seconds; ``lossy``: entries may get lost (evicted, flushed,
    server restarted), so absence proves nothing. ``exact``: what is not near is current, as no
    server can be replaced without our knowing. ``recovery``: seconds after a fault's end that still
    belong to it where loads are counted.
    """

    bound: float = 1.0
    lossy: bool = False
    exact: bool = False
    strong: bool = True
    windows: Sequence[Window] = ()
    recovery: float = 5.0


@dataclass
class Verdict:
    """What a history was worth. Times in seconds."""

    runs: int = 0
    operations: int = 0
    reads: int = 0
    reads_in_faults: int = 0
    near_capable: int = 0
    near_hits: int = 0
    undone: int = 0
    undecided: int = 0
    not_monotonic: int = 0
    worst_staleness: float = 0.0
    worst_call: float = 0.0
    longest_gap: float = 0.0
    violations: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    @property
    def near_share(self) -> float:
        """Of the reads outside of faults that found a value, the share answered without waiting."""
        return self.near_hits / self.near_capable if self.near_capable else 0.0

    @property
    def violated(self) -> int:
        return sum(self.violations.values())

    def add(self, name: str, text: str) -> None:
        """A violation."""
        self.violations[name] += 1
        if self.violations[name] <= _EXAMPLES:
            self.examples.append(f"{name}: {text}")

    def merge(self, other: Verdict) -> None:
        """Add another history's figures."""
        for name in ("operations", "reads", "reads_in_faults", "near_capable", "near_hits"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("undone", "undecided", "not_monotonic"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("worst_staleness", "worst_call", "longest_gap"):
            setattr(self, name, max(getattr(self, name), getattr(other, name)))
        self.violations += other.violations
        self.outcomes += other.outcomes
        self.examples += other.examples


def judge(calls: Iterable[Call], keys: Sequence[Key], terms: Terms) -> Verdict:
    """Check a whole history; ``calls`` are those of all processes (see `history.finished`)."""
    verdict = Verdict()
    reads: dict[int, list[Call]] = defaultdict(list)
    loaders: dict[int, list[Call]] = defaultdict(list)
    changing: dict[int, list[Call]] = defaultdict(list)
    tags: dict[int, list[Call]] = defaultdict(list)
    for call in calls:
        _count(call, terms, verdict)
        if call.kind == Kind.LOADER:
            loaders[call.key].append(call)
        elif call.kind < Kind.SET:
            if call.outcome == Outcome.OK:
                reads[call.key].append(call)
        elif call.kind == Kind.BUMP_TAG:
            tags[call.key].append(call)
        else:
            changing[call.key].append(call)
    for key in keys:
        acts = tags[key.tag] if key.role == "tagged" else changing[key.number]
        _Key(key, acts, reads[key.number], terms, verdict).check()
        _loads(key, acts, reads[key.number], loaders[key.number], terms, verdict)
    verdict.longest_gap = _longest_gap(reads)
    return verdict


def _count(call: Call, terms: Terms, verdict: Verdict) -> None:
    verdict.operations += 1
    if call.kind != Kind.LOADER:
        verdict.outcomes[Outcome(call.outcome).name.lower()] += 1
        if call.end < NEVER and call.kind in _SINGLE:
            verdict.worst_call = max(verdict.worst_call, (call.end - call.start) / 1e9)
    if call.kind >= Kind.LOADER or call.outcome != Outcome.OK:
        return
    verdict.reads += 1
    if any(window.start <= call.start <= window.end for window in terms.windows):
        verdict.reads_in_faults += 1
    elif call.kind != Kind.FRESH and call.tier and not call.final and call.value != ABSENT:
        verdict.near_capable += 1
        verdict.near_hits += call.tier == Tier.NEAR


class _Key:
    """The checks of one key."""

    def __init__(
        self,
        key: Key,
        acts: Sequence[Call],
        reads: Sequence[Call],
        terms: Terms,
        verdict: Verdict,
    ) -> None:
        self.key, self.acts, self.reads = key, acts, reads
        self.terms, self.verdict = terms, verdict
        changes = changes_of(acts, reads)
        undone = _undone(changes, reads, terms.windows)
        verdict.undone += len(undone)
        self.undone = undone
        # What is undone ends nothing, but its value may have been read while it was there.
        self.line = Timeline(
            [change._replace(done=NEVER) if change in undone else change for change in changes]
        )
        kept = [each for each in changes if each not in undone or _removes(each)]
        self.own = {
            process: Timeline([change for change in kept if change.process == process])
            for process in {change.process for change in kept}
        }

    def check(self) -> None:
        bound = round(self.terms.bound * 1e9)
        newest: dict[int, tuple[int, int]] = {}  # by process: a read's end, its value's start
        dead: dict[tuple[int, int], tuple[Change | None, Change | None]] = {}
        for read in self.reads:
            value = (read.writer, read.number)
            if value == ABSENT:
                continue
            if value not in dead:
                written = self.line.written(value)
                dead[value] = written, self.line.killer(written.placed) if written else None
            written, killer = dead[value]
            if written is None or written.start > read.end:
                self.verdict.add("alien", str(read))
                continue
            if killer is not None and killer.done < read.start:
                self._stale(read, killer, bound)
            self._own_changes(read, written)
            if read.start > written.ends + _TTL_SLACK:
                self.verdict.add("TTL", f"{read}, {(read.start - written.ends) / 1e6:.1f} ms late")
            self._monotonic(read, written, newest)
        if not self.terms.lossy:
            self._absences(bound)
        self._overtaken(bound)
        self._converged()
        if self.key.role in ("register", "strong") and self.terms.strong and not self.undone:
            self._linearizable()

    def _stale(self, read: Call, killer: Change, bound: int) -> None:
        late = read.start - killer.done
        self.verdict.worst_staleness = max(self.verdict.worst_staleness, late / 1e9)
        text = f"{read}, out of date for {late / 1e6:.3f} ms"
        if read.kind == Kind.FRESH:
            self.verdict.add("I1" if read.writer == ORIGIN else "I4", text)
        elif late > (0 if self.terms.exact and read.tier == Tier.BACKEND else bound):
            removed = killer.kind in _REMOVALS
            name = "I1" if read.writer == ORIGIN else "I6" if removed else "I2"
            self.verdict.add(name, text)
        if read.kind == Kind.LOOKUP and late > read.age * 1e9 + MS:
            self.verdict.add("age", f"{text}, said to be at most {read.age * 1e3:.3f} ms old")

    def _own_changes(self, read: Call, written: Change) -> None:
        own = self.own.get(read.process)
        killer = own.killer(written.placed) if own is not None else None
        if killer is not None and killer.done < read.start:
            late = (read.start - killer.done) / 1e6
            self.verdict.add("I8", f"{read}, {late:.3f} ms after its own change")

    def _overtaken(self, bound: int) -> None:
        """Values that were written without an answer, and read when a later write of the same
        process had one: the first was carried out after the second.
        """
        lost = {change.value for change in self.undone}
        later: dict[int, list[Call]] = defaultdict(list)
        for act in self.acts:
            if act.outcome == Outcome.OK and act.kind not in _BUMPS and act.value not in lost:
                later[act.process].append(act)
        ends: dict[tuple[int, int], int] = {}
        for act in self.acts:
            if act.outcome == Outcome.UNKNOWN and act.kind == Kind.SET:
                after = [each.end for each in later[act.process] if each.start > act.end]
                ends[act.value] = min(after, default=NEVER)
        writers = {act.value: act.process for act in self.acts}
        for read in self.reads:
            late = read.start - ends.get(read.value, NEVER)
            exact = read.kind == Kind.FRESH or read.process == writers.get(read.value)
            if late > (0 if exact else bound):
                text = f"{read}, {late / 1e6:.3f} ms after a later write of the same process"
                self.verdict.add("I8", text)

    def _monotonic(self, read: Call, written: Change, newest: dict[int, tuple[int, int]]) -> None:
        end, start = newest.get(read.process, (NEVER, 0))
        if end < read.start and written.placed < start:
            self.verdict.not_monotonic += 1
        if end == NEVER or written.start >= start:
            newest[read.process] = (read.end, written.start)

    def _absences(self, bound: int) -> None:
        """A read found nothing, although a value had been there long enough and nothing removed it:
        neither a removal, nor its TTL, nor a load that was lost.
        """
        if self.key.role not in ("register", "strong"):
            return
        removals = _Removals(self.line.changes)
        lasting = [
            change
            for change in self.line.changes
            if change.value != ABSENT and change.ends == NEVER and change.done < NEVER
        ]
        fleeting = sorted(  # also those that nobody has seen, and may have been there
            act.start
            for act in self.acts
            if act.ttl and act.outcome in (Outcome.OK, Outcome.UNKNOWN)
        )
        for read in self.reads:
            if (read.writer, read.number) != ABSENT:
                continue
            since = removals.last_before(read.end)
            allowed = read.start - (0 if read.kind == Kind.FRESH else bound)
            # a later write with a TTL may have taken its place and gone
            at = bisect_right(fleeting, read.end)
            since = max(since, fleeting[at - 1] if at else -1)
            first = bisect_left(lasting, since, key=lambda change: change.start)
            for change in lasting[first:]:
                if change.start > since and change.done < allowed:
                    self.verdict.add("lost", f"{read}, after {change.value} was written")
                    break

    def _converged(self) -> None:
        final = [read for read in self.reads if read.final]
        values = {read.value for read in final}
        if any(c.value in values and c.ends < NEVER for c in self.line.changes):
            values.discard(ABSENT)  # it ended meanwhile
        if len(values) > 1 and not (self.terms.lossy and len(values - {ABSENT}) <= 1):
            seen = ", ".join(f"{p}: {v}" for p, v in sorted({(r.process, r.value) for r in final}))
            self.verdict.add(
                "I3", f"key {self.key.number} at last has {len(values)} values: {seen}"
            )

    def _linearizable(self) -> None:
        steps = [
            Step("read", read.value if read.value != ABSENT else None, read.start, read.end)
            for read in self.reads
            if read.kind == Kind.FRESH and not (self.terms.lossy and read.value == ABSENT)
        ]
        if not steps or any(call.ttl for call in self.acts):
            return
        steps += [step for call in self.acts if (step := _step(call)) is not None]
        if self.terms.lossy:  # a refused compare-and-set may have found nothing
            steps = [step for step in steps if step.action != "refused"]
        plain = all(step.action in ("read", "write") and step.value is not None for step in steps)
        answer = zones(steps) if plain else linearizable(steps, limit=_SEARCH)
        if answer is None:
            self.verdict.undecided += 1
        elif not answer:
            self.verdict.add("I4", f"key {self.key.number}: no order explains {len(steps)} calls")


def _removes(change: Change) -> bool:
    return change.value == ABSENT or change.kind in _BUMPS


def _step(call: Call) -> Step | None:
    end = call.end if call.outcome != Outcome.UNKNOWN else inf
    if call.outcome == Outcome.FAILED:
        return None
    if call.outcome == Outcome.REFUSED:
        return Step("refused", None, call.start, end, call.expected)
    if call.kind == Kind.CAS:
        return Step("cas", call.value, call.start, end, call.expected)
    if call.kind == Kind.SET:
        return Step("write", call.value, call.start, end)
    return Step("delete", None, call.start, end)


def _undone(
    changes: Sequence[Change], reads: Sequence[Call], windows: Sequence[Window]
) -> set[Change]:
    """Changes that a failover lost; see above. Until the failover is over, two servers may answer,
    so it is afterwards that the new value must never be seen again.
    """
    failovers = [window for window in windows if window.fails_over]
    if not failovers:
        return set()
    line, undone = Timeline(changes), set[Change]()
    answered = [read for read in reads if read.tier == Tier.BACKEND]
    latest: dict[tuple[int, int], int] = {}  # the last time the backend gave a value
    for read in answered:
        latest[read.value] = max(read.start, latest.get(read.value, 0))
    absent = sorted((read.start, read.end) for read in answered if read.value == ABSENT)
    removals = _Removals(changes)
    for read in answered:
        for change in _contradicted(read, line, removals):
            for window in failovers:
                exposed = window.start - _LAG < change.done and change.start < window.end
                if change.value == ABSENT:
                    at = bisect_right(absent, (max(change.done, window.end), NEVER))
                    seen = at < len(absent) and absent[at][1] < read.start
                else:
                    seen = latest.get(change.value, 0) >= max(read.end, window.end)
                if exposed and not seen:
                    undone.add(change)
    return undone


def _contradicted(read: Call, line: Timeline, removals: _Removals) -> list[Change]:
    """The changes that a read can't have seen although they were done before it."""
    if read.value == ABSENT:
        since = removals.last_before(read.end)
    else:
        written = line.written(read.value)
        since = written.placed if written is not None else NEVER
    first = bisect_right(line.changes, since, key=lambda change: change.start)
    last = bisect_right(line.changes, read.start, key=lambda change: change.start)
    between = line.changes[first:last]
    if read.value == ABSENT:
        if any(change.kind in _BUMPS for change in between):
            return []  # nobody has loaded it
        fleeting = max([change.start for change in between if change.ends < NEVER], default=-1)
        between = [c for c in between if c.value != ABSENT and c.start > fleeting]
    return [change for change in between if change.done < read.start]


class _Removals:
    """The removals of a key: until when one may have taken effect that had started by a moment."""

    def __init__(self, changes: Sequence[Change]) -> None:
        removals = [change for change in changes if change.value == ABSENT]
        self._starts = [change.start for change in removals]
        self._done: list[int] = []
        for change in removals:
            self._done.append(max(change.done, self._done[-1] if self._done else 0))

    def last_before(self, moment: int) -> int:
        at = bisect_right(self._starts, moment)
        return self._done[at - 1] if at else -1


def _loads(
    key: Key,
    acts: Sequence[Call],
    reads: Sequence[Call],
    loaders: Sequence[Call],
    terms: Terms,
    verdict: Verdict,
) -> None:
    """I7, in the times between changes that no fault touches."""
    if terms.lossy or not loaders:
        return
    recovery = round(terms.recovery * 1e9)
    loads: dict[int, list[Call]] = defaultdict(list)
    for read in reads:
        if read.kind == Kind.LOAD:
            loads[read.process].append(read)
    since = 0
    for act in [*sorted(acts, key=lambda act: act.start), None]:
        until = act.start if act is not None else NEVER
        disturbed = any(w.start < until and since < w.end + recovery for w in terms.windows)
        if not disturbed:
            inside = [
                loader
                for loader in loaders
                if since < loader.start < until
                and loader.outcome == Outcome.OK
                and since < _asked(loader, loads[loader.process])
            ]
            if len(inside) > 1:
                verdict.add("I7", f"key {key.number} was loaded {len(inside)} times: {inside[1]}")
        if act is not None:
            since = max(since, act.end if act.outcome == Outcome.OK else NEVER)


def _asked(loader: Call, loads: Sequence[Call]) -> int:
    """When the first of the calls began that this loader may have run for."""
    return min([call.start for call in loads if call.start <= loader.start <= call.end], default=0)


def _longest_gap(reads: dict[int, list[Call]]) -> float:
    """The longest time in which no read of a process was answered by the backend."""
    ends: dict[int, list[int]] = defaultdict(list)
    for calls in reads.values():
        for call in calls:
            if call.tier == Tier.BACKEND:
                ends[call.process].append(call.end)
    longest = 0
    for moments in ends.values():
        moments.sort()
        longest = max(longest, *(b - a for a, b in itertools.pairwise(moments)), 0)
    return longest / 1e9
