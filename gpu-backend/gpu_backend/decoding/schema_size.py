"""Refuses schemas that would grow into something huge, before they are compiled: counts what is there once everything that must be merged is written out.

A reference that stands alone is compiled once, however often it is used. One in an `allOf`, or beside other keywords, is written out where it stands, and
alternatives that meet in an `allOf` are multiplied: those are what grows. The numbers are bounds from above and take time in proportion to the schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gpu_backend.core import GrammarError
from gpu_backend.decoding.pattern_size import check_pattern
from gpu_backend.decoding.schema_nodes import ANNOTATIONS, Node, References, items_of, nodes_by_name

# Each of these takes at most about a tenth of a second to compile; beyond them time grows with the square or exponentially.
MAX_PARTS = 3000
MAX_NAMES = 1000
MAX_PATTERN_PROPERTIES = 16
MAX_MEETING_PATTERNS = 8
MAX_DIVISORS = 90_000
MAX_LEVELS = 100
_MEETING = ("allOf", "anyOf", "oneOf", "$ref")


@dataclass(frozen=True, slots=True)
class Shape:
    """What stands in one place. `alternatives` are side by side and have `parts` in all; the rest is for each of them.

    `names` are properties and first items, `open_parts` belong to schemas for properties and items without a name, `keys` are patterns for properties.
    """

    parts: int = 1
    alternatives: int = 1
    names: int = 0
    open_parts: int = 0
    keys: int = 0
    patterns: int = 0
    divisor: int = 0

    def __post_init__(self) -> None:
        if self.parts > MAX_PARTS:
            raise _too_many_parts()
        if self.names > MAX_NAMES:
            raise GrammarError(f"an object or array of it names more than {MAX_NAMES} properties or items: split it into several")
        if self.keys > MAX_PATTERN_PROPERTIES:
            raise GrammarError(f"an object of it has more than {MAX_PATTERN_PROPERTIES} patternProperties: join their patterns")
        if self.patterns > MAX_MEETING_PATTERNS:
            raise GrammarError(f"one text of it has to fit more than {MAX_MEETING_PATTERNS} patterns and formats: join them into one pattern")
        if self.divisor > MAX_DIVISORS:
            raise _too_large_divisors()

    def __and__(self, other: Shape) -> Shape:
        """Both hold: every alternative of one meets every alternative of the other, and open schemas hold for the other's names too."""
        pairs = self.alternatives * other.alternatives
        meetings = self.names * other.open_parts + other.names * self.open_parts
        return Shape(
            parts=self.parts * other.alternatives + other.parts * self.alternatives + pairs * meetings,
            alternatives=pairs,
            names=self.names + other.names,
            open_parts=self.open_parts + other.open_parts,
            keys=self.keys + other.keys,
            patterns=self.patterns + other.patterns,
            divisor=self.divisor * other.divisor or self.divisor + other.divisor,
        )

    def __or__(self, other: Shape) -> Shape:
        """One of them holds."""
        return Shape(
            parts=self.parts + other.parts,
            alternatives=self.alternatives + other.alternatives,
            names=max(self.names, other.names),
            open_parts=max(self.open_parts, other.open_parts),
            keys=max(self.keys, other.keys),
            patterns=max(self.patterns, other.patterns),
            divisor=self.divisor + other.divisor,
        )


ONE = Shape()


def parts_of(schema: Node) -> int:
    """How many parts the schema has when it is compiled. Raises GrammarError that says what to shorten."""
    return _Expansion(schema).count()


def check_total(num_parts: int) -> None:
    """For several schemas that are compiled together. Raises GrammarError."""
    if num_parts > MAX_PARTS:
        raise _too_many_parts()


class _Expansion:
    def __init__(self, root: Node) -> None:
        self._references = References(root)
        self._shapes: dict[tuple[int, bool], Shape] = {}
        self._rules: list[Any] = [root]
        self._known_rules = {id(root)}
        self._divisors: dict[int, int] = {}
        # Schemas that are not written anywhere: those of places where several meet.
        self._meetings: dict[tuple[int, ...], Node] = {}
        self._level = 0

    def count(self) -> int:
        total = 0
        # Rules are found, and appended, while this goes on.
        for rule in self._rules:
            total += self._parts_at(rule)
            check_total(total)
        return total

    def _parts_at(self, node: Any) -> int:
        """Of a place where nothing else has to hold."""
        shape = self._shape(node, is_merged=False)
        if shape.divisor and id(node) not in self._divisors:
            self._divisors[id(node)] = shape.divisor
            if sum(self._divisors.values()) > MAX_DIVISORS:
                raise _too_large_divisors()
        return shape.parts

    def _shape(self, node: Any, *, is_merged: bool) -> Shape:
        if not isinstance(node, dict):
            return ONE
        key = (id(node), is_merged)
        if key not in self._shapes:
            # What leads back to here is not counted again: the compiler refuses what would be written out for ever.
            self._shapes[key] = ONE
            self._level += 1
            check_total(len(self._shapes) // 2)
            if self._level > MAX_LEVELS:
                raise GrammarError(f"its schemas lie in each other, or lead to each other, more than {MAX_LEVELS} levels deep: make it flatter")
            self._shapes[key] = self._written_out(node, is_merged)
            self._level -= 1
        return self._shapes[key]

    def _written_out(self, node: Node, is_merged: bool) -> Shape:
        is_met = is_merged or not node.keys().isdisjoint(_MEETING)
        is_merged = is_merged or len(node.keys() - ANNOTATIONS) > 1
        shape = self._own(node, is_met)
        target = self._references.target(node)
        if target is not None and is_merged:
            shape &= self._shape(target, is_merged=True)
        elif target is not None and id(target) not in self._known_rules:
            self._known_rules.add(id(target))
            self._rules.append(target)
        members = items_of(node, "allOf")
        check_total(len(members))
        for member in members:
            shape &= self._shape(member, is_merged=is_merged or len(members) > 1)
        if target is not None or members:
            shape &= Shape(sum(map(self._meeting_parts, self._shared_places([node, target, *members]))))
        for keyword in ("anyOf", "oneOf"):
            choices = [self._shape(choice, is_merged=is_merged) for choice in items_of(node, keyword)]
            if choices:
                either = choices[0]
                for choice in choices[1:]:
                    either |= choice
                shape &= either
        return shape

    def _shared_places(self, schemas: list[Any]) -> list[list[Node]]:
        """The schemas of each property or item that several of these have: as they meet, so do those."""
        found: dict[object, dict[int, Node]] = {}
        for schema in map(self._followed, schemas):
            if isinstance(schema, dict):
                places = [*nodes_by_name(schema, "properties").items(), *enumerate(items_of(schema, "prefixItems")), (None, schema.get("items"))]
                for place, written in places:
                    child = self._followed(written)
                    if isinstance(child, dict):
                        found.setdefault(place, {})[id(child)] = child
        return [list(children.values()) for children in found.values() if len(children) > 1]

    def _meeting_parts(self, children: list[Node]) -> int:
        key = tuple(map(id, children))
        return self._shape(self._meetings.setdefault(key, {"allOf": children}), is_merged=True).parts

    def _followed(self, node: Any) -> Any:
        """What stands behind a reference that stands alone."""
        if isinstance(node, dict) and node.keys() - ANNOTATIONS == {"$ref"}:
            return self._references.target(node)
        return node

    def _own(self, node: Node, is_met: bool) -> Shape:
        """Of the keywords that hold by themselves; no part where there are only others. What is open is written out for each name that it holds for."""
        if isinstance(node.get("pattern"), str):
            check_pattern(node["pattern"])
        is_part = node.keys().isdisjoint(_MEETING) or not node.keys() <= ANNOTATIONS.union(_MEETING)
        properties, keys = nodes_by_name(node, "properties"), nodes_by_name(node, "patternProperties")
        firsts = items_of(node, "prefixItems") or items_of(node, "items")
        required = {name for name in items_of(node, "required") if isinstance(name, str)} - properties.keys()
        rest = [node[keyword] for keyword in ("additionalProperties", "additionalItems", "items") if isinstance(node.get(keyword), dict)]
        names = len(properties) + len(required) + len(firsts)
        Shape(names=names, keys=len(keys))
        named_parts = sum(map(self._parts_at, (*properties.values(), *firsts)))
        key_parts = sum(self._shape(key, is_merged=True).parts for key in keys.values()) if names or is_met else 0
        met_parts = sum(self._shape(schema, is_merged=True).parts for schema in rest) if is_met else 0
        open_parts = sum(map(self._parts_at, (*keys.values(), *rest)))
        constants = sum(_num_values(value) for value in (node.get("const"), *items_of(node, "enum")) if isinstance(value, (dict, list)))
        return Shape(
            parts=is_part + named_parts + len(required) + open_parts + key_parts * names + constants,
            names=names,
            open_parts=met_parts + key_parts,
            keys=len(keys),
            patterns=sum(keyword in node for keyword in ("pattern", "format")),
            divisor=_divisor(node.get("multipleOf")),
        )


def _divisor(value: Any) -> int:
    """What it takes to follow remainders of this number; nothing where the last digits tell."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        return 0
    number = Decimal(str(value))
    digits = int("".join(map(str, number.normalize().as_tuple().digits)))
    if digits <= 10:
        return 0
    return int(number) if number == int(number) else digits


def _num_values(value: Any) -> int:
    """Of a constant, itself included."""
    count, stack = 0, [value]
    while stack:
        item = stack.pop()
        count += 1
        stack += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return count


def _too_many_parts() -> GrammarError:
    return GrammarError(
        f"it comes to more than {MAX_PARTS} parts once references are written out and alternatives combined: "
        "use fewer properties, or less of $ref, allOf and anyOf"
    )


def _too_large_divisors() -> GrammarError:
    return GrammarError(f"its multipleOf come to more than {MAX_DIVISORS} together, multiplied where several hold for one number: use smaller ones")
