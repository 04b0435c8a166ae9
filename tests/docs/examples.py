"""Runs the examples of a Markdown page, so that no page shows code that doesn't work.

The Python blocks of a page share one namespace, one event loop and one empty working directory, and
run in order; `await` may stand at the top level. What a page can say to the runner:

    expression  # -> repr         the value's repr must be exactly this text
    <!-- skip: reason -->         the next block is only shown
    <!-- file: cache.yaml -->     the next block is written to this file before the page goes on
    <!-- needs: redis -->         the page is run with a server in the place of `localhost:6379`
"""

import ast
import asyncio
import io
import re
import textwrap
import tokenize
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from inspect import CO_COROUTINE
from pathlib import Path
from types import ModuleType

__all__ = ["NEEDS_REDIS", "Block", "ExampleError", "blocks_of", "run_page"]

FENCE = re.compile(r"^\s*(?P<ticks>`{3,})\s*(?P<language>[\w+-]*)")
NOTE = re.compile(r"^\s*<!--\s*(?P<kind>skip|file)\b\s*:?\s*(?P<text>.*?)\s*-->\s*$")
EXPECTED = re.compile(r"#\s*->\s*(?P<text>.*?)\s*$")
CHECK = "__check_example__"
NEEDS_REDIS = "<!-- needs: redis -->"
REDIS = "redis://localhost:6379"


class ExampleError(AssertionError):
    """An example that doesn't do what its page says; the text begins with file:line."""


@dataclass(frozen=True)
class Block:
    """A fenced block. `line` is that of its opening fence; `note` is the comment before it."""

    page: Path
    line: int
    language: str
    text: str
    note: tuple[str, str] | None

    @property
    def skipped(self) -> bool:
        return self.note is not None and self.note[0] == "skip"

    @property
    def file(self) -> str | None:
        return self.note[1] if self.note is not None and self.note[0] == "file" else None


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order; refuses notes that say nothing or belong to none."""
    blocks: list[Block] = []
    note: tuple[int, str, str] | None = None
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
    for number, line in lines:
        if fence := FENCE.match(line):
            text = _until_closed(lines, fence["ticks"])
            about = note[1:] if note else None
            blocks.append(Block(page, number, fence["language"], text, about))
            note = None
        elif found := NOTE.match(line):
            if not found["text"]:
                raise ExampleError(f"{page}:{number}: `{found['kind']}:` needs a text")
            note = (number, found["kind"], found["text"])
        elif line.strip() and note:
            raise ExampleError(f"{page}:{note[0]}: `{note[1]}:` must stand right before a block")
    return blocks


def _until_closed(lines: Iterator[tuple[int, str]], ticks: str) -> str:
    inside: list[str] = []
    for _, line in lines:
        if line.strip().startswith(ticks) and not line.strip().strip("`"):
            break
        inside.append(line)
    return textwrap.dedent("\n".join(inside)) + "\n"


def run_page(page: Path, cwd: Path, module: ModuleType, redis: str = REDIS) -> None:
    """Write a page's files into `cwd` and run its Python blocks in the namespace of `module`, with
    the server at `redis` in the place of the page's.
    """
    with asyncio.Runner() as runner:
        for shown in blocks_of(page):
            block = replace(shown, text=shown.text.replace(REDIS, redis))
            if block.file:
                target = cwd / block.file
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(block.text, encoding="utf-8")
            elif block.language == "python" and not block.skipped:
                _run(block, module, runner)


def _run(block: Block, module: ModuleType, runner: asyncio.Runner) -> None:
    """Run one block: in the loop if it awaits at the top level, else as a script would."""
    vars(module)[CHECK] = _Check(block.page)
    try:
        code = compile(_with_checks(block), str(block.page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if code.co_flags & CO_COROUTINE:
            runner.run(eval(code, vars(module)))
        else:
            exec(code, vars(module))
    except ExampleError:
        raise
    except Exception as error:
        where = f"{block.page}:{_line_of(error, block)}"
        raise ExampleError(f"{where}: {type(error).__name__}: {error}") from error


def _line_of(error: Exception, block: Block) -> int:
    """The page's line that failed, or the block's if the error never passed through the page."""
    if isinstance(error, SyntaxError) and error.filename in (str(block.page), "<unknown>"):
        return error.lineno or block.line
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(block.page)]
    return lines[-1] or block.line if lines else block.line


def _with_checks(block: Block) -> ast.Module:
    """The block's tree, with each `expression  # -> repr` turned into a check."""
    source = "\n" * block.line + block.text  # line numbers are then those of the page
    checks = _Checks(_expectations(source))
    tree = checks.visit(ast.parse(source, filename=str(block.page)))
    if checks.expected:
        line = min(checks.expected)
        raise ExampleError(f"{block.page}:{line}: `# ->` belongs after an expression statement")
    return ast.fix_missing_locations(tree)


def _expectations(source: str) -> dict[int, str]:
    """Line and text of each `# -> text` comment."""
    return {
        token.start[0]: found["text"]
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and (found := EXPECTED.match(token.string))
    }


class _Checks(ast.NodeTransformer):
    """Wraps the expressions that have an expectation; what stays in `expected` had none."""

    def __init__(self, expected: dict[int, str]) -> None:
        self.expected = expected

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        text = self.expected.pop(node.end_lineno or node.lineno, None)
        if text is not None:
            arguments = [node.value, ast.Constant(text), ast.Constant(node.lineno)]
            call = ast.Call(ast.Name(CHECK, ast.Load()), arguments, [])
            node.value = ast.copy_location(call, node.value)
        return node


class _Check:
    """Compares a value with what the page says."""

    def __init__(self, page: Path) -> None:
        self.page = page

    def __call__(self, value: object, expected: str, line: int) -> None:
        if repr(value) != expected:
            raise ExampleError(f"{self.page}:{line}: got {value!r}, the page says {expected}")
