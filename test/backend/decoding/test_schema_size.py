"""The count is that of a schema which is written out by hand, alternative by alternative, and whatever stands in a schema it never fails."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_backend.core import GrammarError
from gpu_backend.decoding.schema_length import check_shortest
from gpu_backend.decoding.schema_size import MAX_PARTS, check_total, parts_of

NUM_DEFS = 4


def schemas_after(index: int) -> st.SearchStrategy[dict[str, Any]]:
    """May refer to later definitions only, and name each property but once, so that no two meet."""
    names = st.uuids().map(str)
    leaves: st.SearchStrategy[dict[str, Any]] = st.sampled_from([{"type": "integer"}, {"const": 1}, {}])
    if index < NUM_DEFS:
        leaves |= st.integers(index, NUM_DEFS - 1).map(lambda i: {"$ref": f"#/$defs/d{i}"})

    def around(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
        objects = st.dictionaries(names, inner, min_size=1, max_size=2).map(lambda properties: {"properties": properties})
        lists = st.tuples(st.sampled_from(["allOf", "anyOf"]), st.lists(inner, min_size=1, max_size=3)).map(lambda pair: {pair[0]: pair[1]})
        return objects | lists | st.tuples(objects, lists).map(lambda pair: {**pair[0], **pair[1]})

    return st.recursive(leaves, around, max_leaves=4)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    definitions = {f"d{index}": draw(schemas_after(index + 1)) for index in range(NUM_DEFS)}
    return {"$defs": definitions, **draw(schemas_after(0))}


def alternatives(node: dict[str, Any], defs: dict[str, Any], is_merged: bool, rules: set[str]) -> list[int]:
    """The parts of each alternative, listed one by one."""
    keywords = node.keys() - {"$defs"}
    is_merged = is_merged or len(keywords) > 1
    own = int(keywords.isdisjoint({"allOf", "anyOf", "$ref"}) or "properties" in keywords)
    for child in node.get("properties", {}).values():
        own += sum(alternatives(child, defs, False, rules))
    found = [own]
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        if not is_merged:
            rules.add(name)
            return found
        found = [a + b for a, b in itertools.product(found, alternatives(defs[name], defs, True, rules))]
    for member in node.get("allOf", ()):
        met = alternatives(member, defs, is_merged or len(node["allOf"]) > 1, rules)
        found = [a + b for a, b in itertools.product(found, met)]
    if "anyOf" in node:
        choices = [parts for choice in node["anyOf"] for parts in alternatives(choice, defs, is_merged, rules)]
        found = [a + b for a, b in itertools.product(found, choices)]
    return found


def count_by_hand(document: dict[str, Any]) -> int:
    rules: set[str] = set()
    total, done = sum(alternatives(document, document["$defs"], False, rules)), set[str]()
    while rules - done:
        name = min(rules - done)
        done.add(name)
        total += sum(alternatives(document["$defs"][name], document["$defs"], False, rules))
    return total


def names_of(value: Any) -> list[str]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = [value["$ref"]] if isinstance(value, dict) and "$ref" in value else []
    return own + [name for child in children for name in names_of(child)]


@settings(max_examples=150, deadline=None)
@given(documents())
def test_the_count_is_that_of_the_schema_written_out(document: dict[str, Any]) -> None:
    # A definition that is used twice may meet itself, which the list by hand knows nothing of.
    if len(set(names_of(document))) == len(names_of(document)):
        try:
            counted = parts_of(document)
        except GrammarError:
            counted = MAX_PARTS + 1
        assert min(count_by_hand(document), MAX_PARTS + 1) == counted


def test_meeting_properties_are_counted_once_more_each() -> None:
    """`a` of both members becomes one schema of two parts, besides the two that were there."""
    apart = parts_of({"allOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"b": {"minLength": 1}}}]})
    assert parts_of({"allOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"a": {"minLength": 1}}}]}) == apart + 2


@pytest.mark.parametrize("reference", ["#/$defs/a~1b%20c", "#there", "https://example.com/a", "https://example.com/a#", "#/$defs/list/anyOf/0"])
def test_references_are_followed_the_way_they_are_written(reference: str) -> None:
    target = {"$id": "https://example.com/a", "$anchor": "there", "properties": {name: {} for name in "abcdefg"}}
    document = {"$defs": {"a/b c": target, "list": {"anyOf": [target]}}, "allOf": [{"$ref": reference}, {"minProperties": 1}]}
    assert parts_of(document) == parts_of({"allOf": [target, {"minProperties": 1}]})


@pytest.mark.parametrize("reference", ["#/nowhere", "#/allOf/9", "#/allOf/x", "#nowhere", "https://example.com/b", 7, None])
def test_references_to_nothing_are_left_to_the_compiler(reference: Any) -> None:
    assert parts_of({"allOf": [{"$ref": reference}, {"type": "object"}]}) == 1


def test_the_bound_is_met_exactly() -> None:
    check_total(MAX_PARTS)
    with pytest.raises(GrammarError, match="parts"):
        check_total(MAX_PARTS + 1)
    assert parts_of({"anyOf": [{"const": index} for index in range(MAX_PARTS)]}) == MAX_PARTS
    with pytest.raises(GrammarError, match="parts"):
        parts_of({"anyOf": [{"const": index} for index in range(MAX_PARTS + 1)]})


KEYWORDS = [
    "$ref",
    "$id",
    "$anchor",
    "allOf",
    "anyOf",
    "oneOf",
    "properties",
    "patternProperties",
    "additionalProperties",
    "items",
    "prefixItems",
    "required",
    "enum",
    "const",
    "multipleOf",
    "minItems",
    "minLength",
    "type",
    "pattern",
    "format",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["#", "#/allOf/0", "string", "object", "array", "(a{2}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYWORDS), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYWORDS), VALUES, max_size=5))
def test_whatever_stands_in_a_schema_is_counted_or_refused(schema: dict[str, Any]) -> None:
    for check in (parts_of, check_shortest):
        try:
            check(schema)
        except GrammarError as error:
            assert str(error)
