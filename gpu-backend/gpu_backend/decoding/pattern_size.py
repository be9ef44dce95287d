"""Refuses regular expressions that would take long to compile or much memory to keep: counts repetitions and the shortest text that matches, in one pass.

Nothing here backtracks, neither the count nor the automaton that follows a pattern, so `(a+)+$` is as good as any other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from gpu_backend.core import GrammarError

# 256 stars in a row take 25 ms to compile and thousands take for ever; what must be repeated exactly takes 340 bytes for each character, and is kept.
MAX_REPETITIONS = 256
MAX_SHORTEST = 8192
_COUNT = re.compile(r"\{([0-9]+)(,?)([0-9]*)\}")
# `(?:`, `(?i)`, `(?i:`, `(?<name>`, `(?P<name>` and the heads that are refused later.
_GROUP_HEAD = re.compile(r"\?(?:P?<\w+>|<?[=!]|[A-Za-z-]*:?)")
_LONG_ESCAPE = re.compile(r"\\(?:[pPxuU]\{[^}]{0,64}\}|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8})")
_ANCHORS = frozenset("^$")


@dataclass(slots=True)
class _Group:
    """One that is open: the shortest of its alternatives so far, the one at hand, and what its last atom adds to that."""

    branches: list[int] = field(default_factory=list)
    length: int = 0
    atom: int = 0

    def add(self, length: int) -> None:
        self.length += length
        self.atom = length

    def repeat(self, times: int) -> None:
        self.length += (times - 1) * self.atom
        self.atom *= times

    def close(self) -> int:
        return min([*self.branches, self.length])


def check_pattern(pattern: str) -> None:
    """Raises GrammarError that says what to shorten. What is no regular expression is left to the compiler."""
    repetitions, shortest = measure(pattern)
    if repetitions > MAX_REPETITIONS:
        raise GrammarError(f"a pattern repeats more than {MAX_REPETITIONS} things a variable number of times (*, +, ?, {{1,9}}): split or shorten it")
    if shortest > MAX_SHORTEST:
        raise GrammarError(f"a pattern matches nothing of {MAX_SHORTEST} characters or less: repeat less")


def measure(pattern: str) -> tuple[int, int]:
    """Repetitions of variable number, and how many characters the shortest match has."""
    groups, repetitions, at = [_Group()], 0, 0
    while at < len(pattern):
        char, group = pattern[at], groups[-1]
        at += 1
        if char == "\\":
            long = _LONG_ESCAPE.match(pattern, at - 1)
            group.add(0 if pattern[at : at + 1] in ("b", "B", "A", "z") else 1)
            at = long.end() if long else at + 1
        elif char == "[":
            at = _end_of_class(pattern, at)
            group.add(1)
        elif char == "(":
            head = _GROUP_HEAD.match(pattern, at)
            at = head.end() if head else at
            groups.append(_Group())
        elif char == ")" and len(groups) > 1:
            groups.pop()
            groups[-1].add(group.close())
        elif char == "|":
            group.branches.append(group.length)
            group.length = group.atom = 0
        elif char in "*+?":
            group.repeat(1 if char == "+" else 0)
            repetitions += 1
            at += pattern[at : at + 1] == "?"
        elif char == "{" and (count := _COUNT.match(pattern, at - 1)):
            group.repeat(_number(count[1]))
            repetitions += bool(count[2]) and count[1] != count[3]
            at = count.end() + (pattern[count.end() : count.end() + 1] == "?")
        else:
            group.add(char not in _ANCHORS)
    while len(groups) > 1:
        length = groups.pop().close()
        groups[-1].add(length)
    return repetitions, groups[0].close()


def _number(digits: str) -> int:
    return 10**9 if len(digits) > 9 else int(digits)


def _end_of_class(pattern: str, at: int) -> int:
    """Where a class that began before `at` ends. Classes may lie in classes."""
    level = 1
    at += pattern[at : at + 1] == "^"
    at += pattern[at : at + 1] == "]"
    while at < len(pattern) and level:
        char = pattern[at]
        at += 2 if char == "\\" else 1
        level += (char == "[") - (char == "]")
    return at
