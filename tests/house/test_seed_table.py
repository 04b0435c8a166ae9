"""`docs/reference/seed.md` has one true row for each construct of the specification.

The rules are functions from rows to the list of their breaches; the last tests show that each of
them bites, and that the reader of the specification finds what is there.
"""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
from tests.house.sources import ROOT
from tests.house.specification import LANGUAGE, SPECIFICATION, Construct, constructs

TABLE = ROOT / "docs" / "reference" / "seed.md"

ROW = re.compile(
    r"^\| `(?P<construct>[^`]+)` \| (?P<python>[^|]*) \| (?P<status>[^|]*) \| (?P<by>[^|]*) \|$"
)
TEST = re.compile(r"`(?P<file>tests/[\w/]+\.py)::(?P<name>\w+)(?:\[(?P<case>[^]]+)\])?`")
LINK = re.compile(r"\[[^]]+\]\((?P<target>[^)#]*)(?:#[^)]*)?\)")

STATUSES = {"done", "shown"}


@dataclass(frozen=True)
class Row:
    construct: str
    python: str
    status: str
    by: str


def rows_of(text: str) -> list[Row]:
    return [Row(**found.groupdict()) for line in text.splitlines() if (found := ROW.match(line))]


@cache
def asked_for() -> tuple[Construct, ...]:
    return tuple(constructs(SPECIFICATION.read_text(encoding="utf-8")))


@cache
def names_in(file: Path) -> frozenset[str]:
    """The names of the test functions of a file, also of those inside classes."""
    tree = ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else ast.Module([], [])
    nodes = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, nodes))


# --- the rules -----------------------------------------------------------------------------------


def every_construct_has_its_row(rows: list[Row]) -> Iterator[str]:
    have = {row.construct for row in rows}
    for construct in asked_for():
        if construct.name not in have:
            yield f"no row for {construct.name} ({construct.kind}, line {construct.line})"


def every_row_is_asked_for(rows: list[Row]) -> Iterator[str]:
    asked = {construct.name for construct in asked_for()}
    seen: set[str] = set()
    for row in rows:
        if row.construct not in asked:
            yield f"{row.construct}: the specification has no such thing"
        if row.construct in seen:
            yield f"{row.construct}: a second row"
        seen.add(row.construct)


def every_status_is_known(rows: list[Row]) -> Iterator[str]:
    headings = {construct.name for construct in asked_for() if construct.kind == "heading"}
    for row in rows:
        if row.status not in STATUSES:
            yield f"{row.construct}: unknown status {row.status!r}"
        elif row.status == "shown" and row.construct not in headings:
            yield f"{row.construct}: only a heading is shown by something else"


def every_status_is_backed(rows: list[Row]) -> Iterator[str]:
    """Done: by a test. Shown: by a page."""
    for row in rows:
        if row.status == "done" and not TEST.search(row.by):
            yield f"{row.construct}: done without a test"
        if row.status == "shown" and not LINK.search(row.by):
            yield f"{row.construct}: shown, and by what is not said"


def every_test_exists(rows: list[Row]) -> Iterator[str]:
    for row in rows:
        for found in TEST.finditer(row.by):
            if found["name"] not in names_in(ROOT / found["file"]):
                yield f"{row.construct}: there is no test {found[0]}"
            if found["name"] == "test_page" and not (ROOT / (found["case"] or "")).is_file():
                yield f"{row.construct}: there is no page {found['case']}"


def every_link_leads_somewhere(rows: list[Row]) -> Iterator[str]:
    for row in rows:
        for found in LINK.finditer(row.by):
            if found["target"] and not (TABLE.parent / found["target"]).is_file():
                yield f"{row.construct}: there is no page {found['target']}"


Rule = Callable[[list[Row]], Iterator[str]]

RULES: list[Rule] = [
    every_construct_has_its_row,
    every_row_is_asked_for,
    every_status_is_known,
    every_status_is_backed,
    every_test_exists,
    every_link_leads_somewhere,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_table_keeps(rule: Rule):
    assert list(rule(rows_of(TABLE.read_text(encoding="utf-8")))) == []


def test_no_line_of_the_table_is_left_unread():
    """A row that the pattern does not match would not be checked."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    header = "| specification | Python | status | shown by |"
    body = [line for line in lines if line.startswith("|") and line != header and "---" not in line]

    assert [line for line in body if ROW.match(line) is None] == []


# --- each rule bites -----------------------------------------------------------------------------

GOOD = Row("PoolConfig", "`PoolConfig`", "done", f"`tests/house/{Path(__file__).name}::test_bites`")

BREACHES: list[tuple[Rule, Row]] = [
    (every_row_is_asked_for, replace(GOOD, construct="PoolConfig.colour")),
    (every_status_is_known, replace(GOOD, status="almost")),
    (every_status_is_known, replace(GOOD, status="planned")),
    (every_status_is_known, replace(GOOD, status="shown", by="[here](seed.md)")),
    (every_status_is_backed, replace(GOOD, by="a test somewhere")),
    (every_status_is_backed, replace(GOOD, status="shown", by="everywhere")),
    (every_test_exists, replace(GOOD, by="`tests/house/test_seed_table.py::test_missing`")),
    (every_test_exists, replace(GOOD, by="`tests/house/test_no_such_file.py::test_bites`")),
    (
        every_test_exists,
        replace(GOOD, by="`tests/docs/test_examples.py::test_page[docs/howto/none.md]`"),
    ),
    (every_link_leads_somewhere, replace(GOOD, by="[there](../howto/none.md)")),
]


@pytest.mark.parametrize(("rule", "row"), BREACHES)
def test_bites(rule: Rule, row: Row):
    assert list(rule([GOOD])) == []
    assert len(list(rule([row]))) == 1


def test_a_missing_and_a_doubled_row_are_found():
    rows = [replace(GOOD, construct=construct.name) for construct in asked_for()]

    assert list(every_construct_has_its_row(rows)) == []
    assert list(every_construct_has_its_row(rows[1:])) == ["no row for # Cache (heading, line 1)"]
    assert list(every_row_is_asked_for([*rows, rows[0]])) == ["# Cache: a second row"]


# --- the reader of the specification -------------------------------------------------------------

SAMPLES = {
    "heading": ["# Cache", "Features > Cache Coherence", "Best Practices > Cache Design"],
    "item": ["Overview: Cache eviction", "Support: Community Support"],
    "box": ["[Cache]", "[Policy Engine]", "[Stats Collector]"],
    "yaml": ["cache.backend.pool.max_connections", "regions.session.policy.type: fifo"],
    "command": ["$ cache metrics show"],
    "message": ["Error: High latency", "Solution: Check replication status"],
    "import": ["use clusterdb::cache", "use clusterdb::monitoring", "use clusterdb::tracing"],
    "attribute": ["#[tokio::main]"],
    "metric": ["metric cache_size"],
    "type": ["Cache", "CacheRegion", "EventStream", "Health", "Monitor", "WriteOptions"],
    "variant": ["CoherenceMode::WriteThrough", "EvictionPolicy::FIFO", "BackupStorage::S3"],
    "field": [
        "Cache.ttl",
        "CacheBackend::Redis.tls",
        "PartitionStrategy::Consistent.virtual_nodes",
        "WriteOptions.sync",
        "AlertConfig.max_eviction_rate",
    ],
    "function": ["BatchOperation::new", "ByteSize::mb", "Duration::from_minutes", "Cache::new"],
    "method": [
        "cache.write_through",
        "cache.atomic().check",
        "BatchOperation.set_with_ttl",
        "events.next",
        "TracingConfig.with_context_propagation",
        "CacheManager.set(key, value, options)",
        "CacheMonitor.get_health()",
    ],
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_reader_finds(kind: str):
    found = [construct.name for construct in asked_for() if construct.kind == kind]

    assert [name for name in SAMPLES[kind] if name not in found] == []


def test_the_reader_finds_as_much_as_there_is():
    assert len(asked_for()) > 350
    assert {construct.kind for construct in asked_for()} == set(SAMPLES)


def test_no_word_of_the_rust_blocks_is_passed_over():
    """A second, cruder look: each capitalised word and each `name:` of a field is in some row."""
    text = SPECIFICATION.read_text(encoding="utf-8")
    blocks = re.findall(r"```rust\n(.*?)```", text, re.DOTALL)
    code = re.sub(r'"[^"]*"|//.*', "", "\n".join(blocks))
    words = set(re.findall(r"\b[A-Z]\w+", code))
    words |= set(re.findall(r"^ +(\w+): ", code, re.MULTILINE))
    told = {word for construct in asked_for() for word in re.findall(r"\w+", construct.name)}
    samples = {"User", "id", "email"}

    assert words - told - LANGUAGE - samples == set()


def test_no_key_of_the_yaml_blocks_is_passed_over():
    text = SPECIFICATION.read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    keys = {key for block in blocks for key in re.findall(r"^ *([\w-]+):", block, re.MULTILINE)}
    told = {each.name.split(".")[-1] for each in asked_for() if each.kind == "yaml"}

    assert keys - told == set()


def test_the_links_of_the_specification_stand_on_the_first_page():
    links = re.findall(r"\]\((https://[^)]+)\)", SPECIFICATION.read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")

    assert len(links) == 3
    assert [link for link in links if link not in page] == []
