"""Every Python block of the README and of docs/ runs and does what its page says."""

import gc
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.docs.examples import NEEDS_REDIS, ExampleError, blocks_of, run_page
from tests.redis.servers import missing, standalone

ROOT = Path(__file__).resolve().parents[2]


def pages(*, redis: bool = False) -> list[Path]:
    """The pages that need a Redis, or those that don't."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in found if redis is (NEEDS_REDIS in page.read_text(encoding="utf-8"))]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a page in an empty directory, as a module of its own (types are resolved through it)."""
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    monkeypatch.chdir(cwd)

    def run(page: Path, **servers: str) -> dict[str, object]:
        module = ModuleType(f"examples_of_{page.stem}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        run_page(page, cwd, module, **servers)
        return dict(vars(module))

    yield run
    gc.collect()  # what a page left open warns in its own test


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path, run):
    run(page)


@pytest.mark.server
@pytest.mark.parametrize("page", pages(redis=True), ids=lambda page: str(page.relative_to(ROOT)))
def test_page_that_needs_redis(page: Path, run, tmp_path):
    if absent := missing():
        pytest.skip(f"not installed: {', '.join(absent)}")
    deployment = standalone(tmp_path / "redis")
    try:
        run(page, redis=deployment.urls[0])
    finally:
        deployment.stop()


# --- the runner itself -------------------------------------------------------------------------


@pytest.fixture
def page(tmp_path):
    """Write a page; `~~~` stands for the fences."""

    def page(text: str) -> Path:
        path = tmp_path / "page.md"
        path.write_text(text.replace("~~~", "```"), encoding="utf-8")
        return path

    return page


def test_blocks_share_a_namespace_and_a_loop(page, run):
    names = run(
        page(
            "~~~python\nimport asyncio\nloop = asyncio.get_running_loop\nfirst = loop()\n"
            "await asyncio.sleep(0)\n~~~\n"
            "~~~python\nawait asyncio.sleep(0)\nsame = loop() is first\nsame  # -> True\n~~~\n"
        )
    )

    assert names["same"] is True


def test_a_block_without_await_runs_as_a_script(page, run):
    run(
        page(
            "~~~python\nimport asyncio\nasync def main():\n    return 1\n"
            "asyncio.run(main())  # -> 1\n~~~\n"
            "~~~python\nawait main()  # -> 1\n~~~\n"
        )
    )


def test_expectations_hold_inside_other_statements(page, run):
    with pytest.raises(ExampleError, match=r"page\.md:4: got 2, the page says 3"):
        run(page("text\n~~~python\nfor n in [2]:\n    n  # -> 3\n~~~\n"))


def test_an_expectation_after_several_lines(page, run):
    run(page("~~~python\nsorted(\n    'ba'\n)  # -> ['a', 'b']\n~~~\n"))


def test_a_wrong_expectation_names_its_line(page, run):
    with pytest.raises(ExampleError, match=r"page\.md:4: got 'a', the page says 'b'"):
        run(page("text\n\n~~~python\n'a'  # -> 'b'\n~~~\n"))


def test_an_expectation_of_nothing_is_refused(page, run):
    with pytest.raises(ExampleError, match=r"page\.md:2: `# ->` belongs after an expression"):
        run(page("~~~python\nx = 1  # -> 1\n~~~\n"))


@pytest.mark.parametrize(("code", "error"), [("1 / 0", "ZeroDivision"), ("1 +", "Syntax")])
def test_an_error_names_its_line(page, run, code, error):
    with pytest.raises(ExampleError, match=rf"page\.md:4: {error}Error"):
        run(page(f"- a list\n\n  ~~~python\n  {code}\n  ~~~\n"))


def test_a_skipped_block_is_not_run(page, run):
    run(page("<!-- skip: needs a cluster -->\n\n~~~python\n1 / 0\n~~~\n"))


@pytest.mark.parametrize("note", ["<!-- skip: -->", "<!-- skip -->", "<!-- file: -->"])
def test_a_note_without_text_is_refused(page, run, note):
    with pytest.raises(ExampleError, match=r"page\.md:1: .* needs a text"):
        run(page(f"{note}\n~~~python\n1 / 0\n~~~\n"))


def test_a_note_without_block_is_refused(page, run):
    with pytest.raises(ExampleError, match=r"page\.md:1: .* right before a block"):
        run(page("<!-- skip: why -->\ntext\n"))


def test_a_file_is_written_where_the_page_runs(page, run):
    run(
        page(
            "<!-- file: conf/cache.yaml -->\n~~~yaml\nname: x\n~~~\n"
            "~~~python\nfrom pathlib import Path\n"
            "Path('conf/cache.yaml').read_text(encoding='utf-8')  # -> 'name: x\\n'\n~~~\n"
        )
    )


def test_types_of_a_page_are_resolved(page, run):
    run(
        page(
            "~~~python\nimport msgspec\nfrom typing import get_type_hints\n"
            "class A(msgspec.Struct):\n    b: 'B'\nclass B(msgspec.Struct):\n    x: int\n"
            'msgspec.json.decode(\'{"b": {"x": 1}}\', type=A)  # -> A(b=B(x=1))\n~~~\n'
        )
    )


def test_only_python_is_run(page):
    path = page("~~~console\n$ ls\n~~~\n\n~~~\nplain\n~~~\n")

    assert [block.language for block in blocks_of(path)] == ["console", ""]
