"""Repetitions and shortest matches are those of the pattern's own parts, and the shortest match does match."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_backend.core import GrammarError
from gpu_backend.decoding.pattern_size import MAX_REPETITIONS, MAX_SHORTEST, check_pattern, measure


@dataclass(frozen=True)
class Known:
    """A pattern with a shortest text that it matches."""

    pattern: str
    repetitions: int
    shortest: str


TEXTS = {"a": "a", ".": "x", r"\d": "7", "[^]a(|]": "x", r"[\]b]": "b", r"\(": "(", "é": "é", r"\x41": "A", "{": "{", r"\u00e9": "é", r"\b": "", "": ""}
ATOMS = st.sampled_from([Known(pattern, 0, text) for pattern, text in TEXTS.items()])


def around(inner: st.SearchStrategy[Known]) -> st.SearchStrategy[Known]:
    def joined(parts: list[Known]) -> Known:
        return Known("".join(part.pattern for part in parts), sum(part.repetitions for part in parts), "".join(part.shortest for part in parts))

    def either(parts: list[Known]) -> Known:
        return Known(f"({'|'.join(part.pattern for part in parts)})", sum(p.repetitions for p in parts), min((p.shortest for p in parts), key=len))

    def repeated(part: Known, how: tuple[str, int, int], head: str) -> Known:
        return Known(f"({head}{part.pattern}){how[0]}", part.repetitions + how[1], part.shortest * how[2])

    hows = st.sampled_from([("*", 1, 0), ("+?", 1, 1), ("?", 1, 0), ("{3}", 0, 3), ("{2,}", 1, 2), ("{0,5}?", 1, 0), ("{4,4}", 0, 4), ("", 0, 1)])
    heads = st.sampled_from(["", "?:", "?i:"])
    lists = st.lists(inner, min_size=1, max_size=3)
    return lists.map(joined) | lists.map(either) | st.builds(repeated, inner, hows, heads)


@settings(max_examples=300, deadline=None)
@given(st.recursive(ATOMS, around, max_leaves=8))
def test_a_pattern_is_measured_by_its_parts(known: Known) -> None:
    assert measure(known.pattern) == (known.repetitions, len(known.shortest))
    if r"\b" not in known.pattern and "]a" not in known.pattern:
        assert re.fullmatch(known.pattern, known.shortest)


@pytest.mark.parametrize("pattern", ["(", ")", "[", "[a", "a|", "\\", "(?<n", "(?P<name>a)", "*", "{3}", "[[a]b]", "\\p{", "(?=a)", "((", "a{,3}", "[^"])
def test_what_is_no_pattern_is_left_to_the_compiler(pattern: str) -> None:
    check_pattern(pattern)


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from(r"ab()[]{}|*+?\^$.,-1029:<>=pPx"), max_size=40))
def test_no_text_makes_it_fail(pattern: str) -> None:
    repetitions, shortest = measure(pattern)
    assert 0 <= repetitions <= len(pattern) and shortest >= 0


def test_the_bounds_are_met_exactly() -> None:
    check_pattern("a*" * MAX_REPETITIONS)
    check_pattern(f"(?:ab){{{MAX_SHORTEST // 2}}}")
    with pytest.raises(GrammarError, match="repeats more than 256"):
        check_pattern("a*" * (MAX_REPETITIONS + 1))
    with pytest.raises(GrammarError, match="8192 characters"):
        check_pattern(f"(?:ab){{{MAX_SHORTEST // 2}}}c")
