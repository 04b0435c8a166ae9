"""One leader, whatever stops and whatever clocks say: a model of processes that share a state."""

from hypothesis import given
from hypothesis import strategies as st

from clusterdb.cache.maintenance.lease import Lease, Watch
from clusterdb.cache.maintenance.state import LostLease, MaintenanceState

SECONDS = 10.0


class Process:
    """What a scheduler does at each look, with a clock that is off by ``shift``."""

    def __init__(self, name: str, shift: float) -> None:
        self.name, self.shift = name, shift
        self.watch = Watch(SECONDS)
        self.lease: Lease | None = None

    def look(self, state: MaintenanceState, now: float) -> MaintenanceState:
        now += self.shift
        if self.lease is not None:
            try:
                state = state.renewed(self.lease.token)
            except LostLease:
                self.lease = None
                return state
            self.lease.renew(now)
        elif self.watch.is_free(state.leader, now):
            self.lease = Lease(self.name, SECONDS)
            state = state.led_by(self.lease.leader)
            self.lease.renew(now)
        return state

    def leads(self, now: float) -> bool:
        return self.lease is not None and self.lease.holds(now + self.shift)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0.1, 25.0)), max_size=60),
    st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4),
)
def test_never_do_two_lead_at_once(looks, shifts):
    processes = [Process(f"p{n}", shift) for n, shift in enumerate(shifts)]
    state, now = MaintenanceState(), 0.0
    for who, pause in looks:  # whoever does not look meanwhile stands still
        now += pause
        state = processes[who].look(state, now)

        leading = [each.name for each in processes if each.leads(now)]
        assert len(leading) <= 1, leading
        if leading:
            assert state.leader is not None
            assert leading == [state.leader.name]


def test_who_falls_silent_is_followed_after_a_lease():
    first, second = Process("a", 0), Process("b", 500)
    state = first.look(MaintenanceState(), 0)
    state = second.look(state, 1)
    state = second.look(state, 1 + SECONDS - 0.1)
    assert first.lease is not None
    assert state.leader == first.lease.leader

    state = second.look(state, 1 + SECONDS)

    assert second.leads(1 + SECONDS)
    assert not first.leads(1 + SECONDS)


def test_who_gives_the_lead_away_is_followed_at_once():
    first, second = Process("a", 0), Process("b", 0)
    state = first.look(MaintenanceState(), 0)
    assert first.lease is not None
    state = second.look(state.resigned(first.lease.token), 0.5)

    assert second.leads(0.5)
