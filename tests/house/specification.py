"""What the specification asks for: its constructs, each with the name of its row in the seed table.

The text is `seed/seed-cache.md`, as the user gave it. Read from it are

* headings (`Features > Cache Operations`) and items of lists (`Overview: Cache eviction`),
* boxes of the drawing (`[Policy Engine]`), commands (`$ cache status`), the troubleshooting table,
* keys of the YAML blocks with their paths (`backup.storage`, and `backup.storage.type: s3` for a
  kind),
* from the Rust blocks: types and variants (`CoherenceMode::WriteThrough`), fields
  (`PoolConfig.idle_timeout`), methods by what they are called on (`cache.atomic().check`),
  functions (`ByteSize::gb`), methods of traits with their parameters
  (`CacheManager.get(key, options)`), imports (`use clusterdb::cache`), attributes, metric names.

Left out are words of Rust itself and the names of the samples' own data.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LANGUAGE", "SPECIFICATION", "Construct", "constructs"]

SPECIFICATION = Path(__file__).parent / "seed" / "seed-cache.md"

FENCE = re.compile(r"^\s*```(?P<language>\w*)\s*$")
HEADING = re.compile(r"^(?P<marks>#{1,6}) (?P<text>.+)$")
NUMBERED = re.compile(r"^\d+\. \*\*(?P<text>.+)\*\*$")
BULLET = re.compile(r"^\s*- (?:\[(?P<link>[^]]+)\]\(.*\)|(?P<text>.+))$")
BOX = re.compile(r"\|\s+([A-Z][A-Za-z ]*?)\s+\|")
YAML_LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w-]+):(?: (?P<value>.+))?$")
TOKEN = re.compile(
    r"""(?P<string>"[^"]*") | (?P<attribute>\#\[[^]]*\]) | (?P<path>[A-Za-z_]\w*(?:::[A-Za-z_]\w*)*)
      | (?P<sign>::|->|=>|[^\s\w])""",
    re.VERBOSE,
)

LANGUAGE = {
    "Default", "Ok", "Option", "Result", "Send", "Some", "String", "Sync", "T", "Vec",
    "async", "await", "fn", "for", "in", "let", "main", "mut", "println", "pub", "self", "str",
    "trait", "use", "vec", "while",
}  # fmt: skip
SAMPLE_DATA = {"User", "User.id", "User.name", "User.email"}


@dataclass(frozen=True)
class Construct:
    """One thing that the specification names."""

    name: str
    kind: str
    line: int


def constructs(text: str) -> list[Construct]:
    """All constructs of a specification, each once, in the order of the text."""
    found: dict[str, Construct] = {}
    for construct in _read(text):
        found.setdefault(construct.name, construct)
    return list(found.values())


def _read(text: str) -> Iterator[Construct]:
    """Prose is read line by line, each fenced block as a whole."""
    headings: list[str] = []
    item = ""
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if fence := FENCE.match(line):
            inside = []
            for _, each in lines:
                if FENCE.match(each):
                    break
                inside.append(each)
            for name, kind, at in BLOCKS[fence["language"]](inside):
                yield Construct(name, kind, number + at)
        elif heading := HEADING.match(line):
            headings = [*headings[: len(heading["marks"]) - 1], heading["text"]]
            item = ""
            yield Construct(_path(headings), "heading", number)
        elif numbered := NUMBERED.match(line):
            item = numbered["text"]
            yield Construct(f"{_path(headings)} > {item}", "heading", number)
        elif bullet := BULLET.match(line):
            above = f"{_path(headings)} > {item}" if item else _path(headings)
            yield Construct(f"{above}: {bullet['link'] or bullet['text']}", "item", number)


def _path(headings: list[str]) -> str:
    return " > ".join(headings[1:]) or f"# {headings[0]}"


Found = Iterator[tuple[str, str, int]]
"""Name, kind and line inside the block."""


def _drawing(lines: list[str]) -> Found:
    for at, line in enumerate(lines, 1):
        for name in BOX.findall(line):
            yield f"[{name}]", "box", at


def _commands(lines: list[str]) -> Found:
    for at, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            yield f"$ {line.strip()}", "command", at


def _messages(lines: list[str]) -> Found:
    for at, line in enumerate(lines, 1):
        yield line.strip(), "message", at


def _yaml(lines: list[str]) -> Found:
    """Paths of the keys, by indentation: the blocks have mappings and lists of scalars."""
    above: list[tuple[int, str]] = []
    for at, line in enumerate(lines, 1):
        found = YAML_LINE.match(line)
        if found is None:
            continue
        indent = len(found["indent"])
        above = [(depth, key) for depth, key in above if depth < indent]
        above.append((indent, found["key"]))
        path = ".".join(key for _, key in above)
        yield path, "yaml", at
        if found["key"] == "type":
            yield f"{path}: {found['value']}", "yaml", at


def _rust(lines: list[str]) -> Found:
    reader = _Rust(lines)
    for name, kind, at in reader.read():
        if name not in LANGUAGE | SAMPLE_DATA:
            yield name, kind, at


class _Rust:
    """Reads a Rust block token by token.

    `owners` has one item an open bracket: the path before a `{` that opens a struct's fields, a
    trait's name, or nothing. `heads` has what a method call at this depth is called on.
    """

    def __init__(self, lines: list[str]) -> None:
        self.tokens = [
            (match[0], match.lastgroup or "", at)
            for at, line in enumerate(lines, 1)
            for match in TOKEN.finditer(re.sub(r"(?<!:)//.*", "", line))
        ]
        self.owners: list[str | None] = []
        self.heads: list[str] = [""]
        self.fields: set[str] = set()

    def read(self) -> Found:
        for i, (token, kind, at) in enumerate(self.tokens):
            if kind == "attribute":
                yield token, "attribute", at
            elif kind == "string" and self._text(i - 2) == "with_metric":
                yield f"metric {token[1:-1]}", "metric", at
            elif kind == "path":
                yield from self._name(i, token, at)
            elif token in "{([":
                self.owners.append(self._owner(i) if token == "{" else None)
                self.heads.append("")
            elif token in "})]":
                self.owners.pop()
                self.heads.pop()
            elif token in ";,=":
                self.heads[-1] = ""

    def _name(self, i: int, path: str, at: int) -> Found:
        before, after = self._text(i - 1), self._text(i + 1)
        owner = self.owners[-1] if self.owners else None
        if before == "fn" and owner is not None:
            yield f"{owner}.{path}({', '.join(self._parameters(i + 1))})", "method", at
        elif before == "." and after == "(":
            head = self.heads[-1]
            yield f"{head}.{path}", "method", at
            if head[:1].islower() and "(" not in head:
                self.heads[-1] = f"{head}.{path}()"
        elif after == ":" and self.owners and owner is not None:
            yield f"{owner}.{path}", "field", at
        elif before != ".":
            yield from self._free(i, path, at)

    def _free(self, i: int, path: str, at: int) -> Found:
        """A name that stands by itself: an import, a type, a variant, a function or a variable."""
        first, _, last = path.rpartition("::")
        self.heads[-1] = first if first and last[0].islower() else path
        if path.startswith("clusterdb"):
            yield f"use {path}", "import", at
        elif first and first.islower() and last[0].isupper():  # cache::Cache inside use {...}
            yield f"use clusterdb::{first}", "import", at
            yield last, "type", at
        elif first and first.islower():
            yield f"use clusterdb::{first}", "import", at
        elif first:
            self.heads[-1] = first if last[0].islower() else path
            yield first, "type", at
            yield path, "function" if last[0].islower() else "variant", at
        elif path[0].isupper():
            yield path, "type", at
        elif self._text(i + 1) == "::":  # monitoring::{...}
            yield f"use clusterdb::{path}", "import", at

    def _owner(self, i: int) -> str | None:
        """What the `{` at `i` opens: a struct's fields, a trait, or a body."""
        j = i - 1
        while j >= 0 and self._text(j) not in (";", "}", "{", "trait", "fn", "while", "for", "use"):
            j -= 1
        word = self._text(j)
        if word == "trait":
            return self._text(j + 1)
        path, kind, _ = self.tokens[i - 1]
        if kind == "path" and path.rpartition("::")[2][0].isupper() and word != "fn":
            return path
        return None

    def _parameters(self, opening: int) -> list[str]:
        closing = next(j for j in range(opening, len(self.tokens)) if self._text(j) == ")")
        return [
            self._text(j)
            for j in range(opening, closing)
            if self._text(j + 1) == ":" and self.tokens[j][1] == "path"
        ]

    def _text(self, i: int) -> str:
        return self.tokens[i][0] if 0 <= i < len(self.tokens) else ""


BLOCKS = {
    "rust": _rust,
    "yaml": _yaml,
    "bash": _commands,
    "plaintext": _drawing,
    "": _messages,
}
