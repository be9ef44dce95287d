"""A schema is refused for its length only when no text could be shorter."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_backend.core import GrammarError
from gpu_backend.decoding.schema_length import MAX_SHORTEST, check_shortest


def item(**keywords: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": keywords}, "required": ["a"]}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": MAX_SHORTEST},
        {"type": ["string", "null"], "minLength": 10**9},
        {"minLength": 10**9},
        {"type": "array", "minItems": MAX_SHORTEST},
        {"type": "array", "maxItems": 10**9, "items": {"$ref": "#"}},
        {"type": "array", "minItems": 1, "prefixItems": [{"type": "null"}], "items": {"$ref": "#"}},
        {"anyOf": [{"type": "string", "minLength": 10**9}, {"type": "null"}]},
        {"anyOf": [item(**{"$ref": "#"}), {"type": "null"}]},
        {"type": "object", "properties": {"a": {"$ref": "#"}}},
        {"type": "object", "required": ["a"]},
        {"type": [], "minItems": "many", "required": 7, "properties": []},
    ],
    ids=str,
)
def test_what_some_short_text_fits_passes(schema: dict[str, Any]) -> None:
    check_shortest(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": MAX_SHORTEST + 1},
        {"type": "array", "minItems": MAX_SHORTEST + 1},
        {"type": "array", "minItems": 300, "items": {"type": "array", "minItems": 300}},
        {"type": "array", "minItems": 2, "prefixItems": [{"type": "null"}], "items": {"$ref": "#"}},
        {"type": ["string", "array"], "minLength": 1e9, "minItems": 1e9},
        {"allOf": [{"type": "null"}, {"type": "string", "minLength": 10**9}]},
        {"anyOf": [item(**{"$ref": "#"}), item(type="string", minLength=10**9)]},
        {"$defs": {"a": item(**{"$ref": "#/$defs/b"}), "b": item(**{"$ref": "#/$defs/a"})}, "$ref": "#/$defs/a"},
    ],
    ids=str,
)
def test_what_no_short_text_fits_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(GrammarError, match="no text fits it in 65536 characters"):
        check_shortest(schema)


def test_lengths_that_fall_from_round_to_round_are_followed_down() -> None:
    """`a` asks `b`, which asks `a` first and knows the way out only behind it: the first round cannot see the end of `a`."""
    way_out = {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}
    check_shortest({"$defs": {"a": {"anyOf": [item(**{"$ref": "#/$defs/b"})]}, "b": way_out}, "$ref": "#/$defs/a"})


def test_what_lies_too_deep_is_not_looked_at() -> None:
    """A ring of 150 objects that need each other has no end, and is left to the compiler: nothing is refused on a guess."""
    ring = {f"d{index}": item(**{"$ref": f"#/$defs/d{(index + 1) % 150}"}) for index in range(150)}
    check_shortest({"$defs": ring, "$ref": "#/$defs/d0"})
