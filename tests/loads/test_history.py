"""The checkers: each finds what it is for, and nothing in a history that is well."""

from tests.loads.history import History, Kind, Origin, needless_calls, stale_answers


def record(history: History, kind: Kind, version: int | None = None, outcome: str = "ok") -> None:
    span = history.begin(kind, kind, "a")
    span.claimed = span.start
    history.end(span, outcome, version)


def test_an_origin_grows():
    origin = Origin()
    assert origin.read("a").version == 0
    assert origin.bump("a", "b") < origin.bump("a")
    assert (origin.read("a").version, origin.read("b").version) == (2, 1)


def test_a_read_after_a_write_has_to_see_it():
    history = History()
    record(history, "write", 2)
    record(history, "read", 2)
    assert not list(stale_answers(history))
    record(history, "read", 1)
    assert len(list(stale_answers(history))) == 1


def test_a_read_that_began_before_may_miss_it():
    history = History()
    early = history.begin("read", "get", "a")
    record(history, "write", 2)
    history.end(early, "ok", 1)
    assert not list(stale_answers(history))


def test_a_remembered_failure_is_an_answer_too():
    history = History()
    record(history, "write", 2)
    record(history, "read", 1, "failed")
    assert len(list(stale_answers(history))) == 1


def test_one_load_between_two_writes():
    history = History()
    for kind in ("call", "write", "call", "write", "call"):
        record(history, kind)
    assert not list(needless_calls(history))
    record(history, "call")
    assert len(list(needless_calls(history))) == 1


def test_a_lost_load_may_be_repeated():
    history = History()
    record(history, "call", outcome="failed")
    record(history, "call")
    assert not list(needless_calls(history))
    assert not list(needless_calls(history, calls_a_load=2))
