"""Keys are taken exactly or refused with the rule; globs match as a naive matcher says."""

import subprocess
import sys
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterdb.cache.errors import CacheError, InvalidKey, InvalidPattern
from clusterdb.cache.keys import MAX_KEY_BYTES, check_key, escape_glob, matcher

# -- keys


@pytest.mark.parametrize(
    "key",
    [
        "k",
        " ",
        "\x00",
        "a\nb\r\x1b",
        "*?[^a]\\",
        "{x}%s",
        "\u202e\ufeff",
        "\U0010ffff",
        "e\u0301",
        "x" * MAX_KEY_BYTES,
        "é" * (MAX_KEY_BYTES // 2),
        "\U0001f600" * (MAX_KEY_BYTES // 4),
    ],
)
def test_a_key_is_taken_as_it_is(key):
    assert check_key(key) == key


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("", "empty"),
        (b"k", "not bytes"),
        (1, "not int"),
        (None, "not NoneType"),
        (("k",), "not tuple"),
        ([], "not list"),
        ("x" * (MAX_KEY_BYTES + 1), "65537 bytes"),
        ("é" * (MAX_KEY_BYTES // 2) + "x", "65537 bytes"),
        ("a\ud800", "lone surrogate at 1"),
        ("\udfff\ud800", "lone surrogate at 0"),
    ],
)
def test_a_bad_key_is_refused_with_its_rule(key, rule):
    with pytest.raises(InvalidKey, match=rule) as raised:
        check_key(key)

    assert isinstance(raised.value, CacheError)
    assert isinstance(raised.value, ValueError)
    assert len(str(raised.value)) < 300


@given(st.text(min_size=1, max_size=50, alphabet=st.characters(codec="utf-8")))
def test_any_encodable_text_is_a_key(text):
    assert check_key(text) == text


def test_a_subclass_becomes_an_exact_str():
    class Odd(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            return True

        def __str__(self) -> str:
            return "something else"

        def __len__(self) -> int:
            return 0

        def isascii(self) -> bool:
            return True

    checked = check_key(Odd("ключ"))

    assert type(checked) is str
    assert checked == "ключ"
    with pytest.raises(InvalidKey):
        check_key(Odd("x" * (MAX_KEY_BYTES + 1)))


# -- globs


def naive(glob: str, key: str) -> bool:
    """Redis's rules, one character at a time."""

    @cache
    def match(at: int, pos: int) -> bool:
        if at == len(glob):
            return pos == len(key)
        char = glob[at]
        if char == "*":
            return any(match(at + 1, rest) for rest in range(pos, len(key) + 1))
        if pos == len(key):
            return False
        if char == "?":
            return match(at + 1, pos + 1)
        if char == "[":
            within, end = naive_class(glob, at + 1, key[pos])
            return within and match(end, pos + 1)
        if char == "\\":
            return glob[at + 1] == key[pos] and match(at + 2, pos + 1)
        return char == key[pos] and match(at + 1, pos + 1)

    return match(0, 0)


def naive_class(glob: str, at: int, char: str) -> tuple[bool, int]:
    negated = glob[at] == "^"
    at += negated
    within = False
    while glob[at] != "]":
        at += glob[at] == "\\"
        low = high = glob[at]
        at += 1
        if glob[at] == "-" and glob[at + 1] != "]":
            at += 1 + (glob[at + 1] == "\\")
            high = glob[at]
            at += 1
        within |= min(low, high) <= char <= max(low, high)
    return within != negated, at + 1


ALPHABET = "abc-^]\n*.&|~é"
literal = st.sampled_from("abc.\n-^é(|)&~#$ {}+")
escaped = st.sampled_from("*?[]\\^-a").map(lambda char: "\\" + char)
member = st.one_of(
    st.sampled_from("abc.*?-^&|~[é"),
    st.sampled_from(["\\]", "\\-", "\\^", "\\\\"]),
    st.sampled_from(["a-c", "c-a", "\\a-\\c", "a-b", "&-~", "--a", "!-~"]),
)
char_class = st.builds(
    lambda negated, members: f"[{negated}{''.join(members)}]",
    st.sampled_from(["", "^"]),
    st.lists(member, max_size=4),
)
globs = st.lists(
    st.one_of(literal, escaped, char_class, st.just("?"), st.just("*"), st.just("**")),
    min_size=1,
    max_size=8,
).map("".join)


@given(globs, st.lists(st.text(alphabet=ALPHABET, min_size=1, max_size=8), max_size=8))
def test_a_glob_matches_what_a_naive_matcher_does(glob, keys):
    matches = matcher(glob)

    assert [matches(key) for key in keys] == [naive(glob, key) for key in keys]


@given(st.text(max_size=20, min_size=1), st.text(max_size=20))
def test_an_escaped_text_matches_only_itself(text, other):
    matches = matcher(escape_glob(text))

    assert matches(text)
    assert matches(other) == (other == text)


@given(st.text(min_size=1, max_size=30, alphabet="ab*?[]^-\\é\n"))
def test_any_text_is_a_glob_or_refused(glob):
    try:
        matches = matcher(glob)
    except InvalidPattern:
        return
    assert matches("ab") == naive(glob, "ab")


@pytest.mark.parametrize(
    ("glob", "rule"),
    [
        ("", "empty"),
        ("a\\", "backslash"),
        ("[abc", "never closes"),
        ("a[", "never closes"),
        ("[^", "never closes"),
        ("[a-", "never closes"),
        ("[a\\]", "never closes"),
        ("x" * 4097, "4096"),
        (b"*", "not bytes"),
        (None, "not NoneType"),
        (["*"], "not list"),
        ({}, "not dict"),
    ],
)
def test_a_bad_glob_is_refused_with_its_rule(glob, rule):
    with pytest.raises(InvalidPattern, match=rule):
        matcher(glob)


ADVERSARIES = [
    ("*a" * 2000 + "*b", "a" * 65_536),
    ("*" * 4000 + "b", "a" * 65_536),
    ("*?" * 2000 + "b", "a" * 65_536),
    ("a*" * 2000 + "b", "a" * 65_536),
    ("*[a-z]" * 680 + "0", "a" * 65_536),
    ("*" + "a" * 1000 + "b*c", "a" * 65_536),
    ("*ab" * 1300 + "*c", "ab" * 32_768),
    ("[" + "a" * 4000 + "]*b", "a" * 65_536),
]


def test_no_glob_makes_a_long_key_take_for_ever():
    script = (
        "from clusterdb.cache.keys import matcher\n"
        "from tests.unit.cache.test_keys import ADVERSARIES\n"
        "for glob, key in ADVERSARIES:\n"
        "    assert not matcher(glob)(key), glob[:20]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
