"""Refuses schemas that no answer can fit because the shortest text that does is too long, or has no end: an object that must hold another of its own kind."""

from __future__ import annotations

from typing import Any

from gpu_backend.core import GrammarError
from gpu_backend.decoding.schema_nodes import Node, References, count_of, items_of, nodes_by_name

# Twice what a context of 32k tokens holds at the two characters that a token of JSON has at least.
MAX_SHORTEST = 65_536
_ENDLESS = 2 * MAX_SHORTEST
_MAX_ROUNDS = 8
# Deeper than this nothing is looked at, and so nothing is refused for what lies there.
_MAX_LEVELS = 100


def check_shortest(schema: Node) -> None:
    """Raises GrammarError that says what to lower."""
    if _shortest(schema) > MAX_SHORTEST:
        raise GrammarError(
            f"no text fits it in {MAX_SHORTEST} characters or less: lower minItems and minLength, and require nothing that always holds itself again"
        )


def _shortest(schema: Node) -> int:
    """A bound from below on the characters of a text that fits. Each round starts from what the last one found, so lengths only fall until they are exact."""
    references, before = References(schema), dict[int, int]()
    for _ in range(_MAX_ROUNDS):
        lengths = _Lengths(references, before)
        length = lengths.of(schema)
        if length <= MAX_SHORTEST or lengths.found == before:
            return length
        before = lengths.found
    return 0


class _Lengths:
    """One round. What is asked for while it is being found has the length of the round before, in the first one no end."""

    def __init__(self, references: References, before: dict[int, int]) -> None:
        self._references = references
        self._before = before
        self.found: dict[int, int] = {}
        self._level = 0

    def of(self, node: Any) -> int:
        if not isinstance(node, dict):
            return 1
        key = id(node)
        if key not in self.found:
            self.found[key] = self._before.get(key, _ENDLESS)
            self._level += 1
            self.found[key] = min(self._of_node(node), _ENDLESS) if self._level <= _MAX_LEVELS else 0
            self._level -= 1
        return self.found[key]

    def _of_node(self, node: Node) -> int:
        """Of everything that must hold, the longest; of alternatives the shortest."""
        kinds = node.get("type")
        names = kinds if isinstance(kinds, list) else [kinds]
        lengths = [min((self._of_kind(node, kind) for kind in names), default=1)]
        if (target := self._references.target(node)) is not None:
            lengths.append(self.of(target))
        lengths += [self.of(member) for member in items_of(node, "allOf")]
        lengths += [min(map(self.of, choices)) for keyword in ("anyOf", "oneOf") if (choices := items_of(node, keyword))]
        return max(lengths)

    def _of_kind(self, node: Node, kind: Any) -> int:
        if kind == "string":
            return int(min(count_of(node, "minLength"), _ENDLESS))
        if kind == "array":
            return self._of_array(node)
        if kind == "object":
            properties = nodes_by_name(node, "properties")
            required = {name for name in items_of(node, "required") if isinstance(name, str)}
            return sum(len(name) + self.of(properties.get(name)) for name in required)
        return 1

    def _of_array(self, node: Node) -> int:
        num_items, firsts = int(min(count_of(node, "minItems"), _ENDLESS)), items_of(node, "prefixItems")
        lengths = [self.of(first) for first in firsts[:num_items]]
        rest = num_items - len(lengths)
        return sum(lengths) + (rest * self.of(node.get("items")) if rest > 0 else 0)
