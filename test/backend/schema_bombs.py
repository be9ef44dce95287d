"""JSON schemas and patterns that are built to cost, and large ones that people really send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def doubling(levels: int, level: Callable[[int, Schema], Schema], last: Schema | None = None) -> Schema:
    """Each definition is made of the reference to the next one."""
    defs = {f"d{index}": level(index, ref(f"d{index + 1}")) for index in range(levels)}
    return {"$defs": {**defs, f"d{levels}": last or {"type": "object", "properties": {"z": {"type": "integer"}}}}, **ref("d0")}


def nested(levels: int, around: Callable[[Schema], Schema]) -> Schema:
    schema: Schema = {"type": "integer"}
    for _ in range(levels):
        schema = around(schema)
    return schema


def pair(one: Schema, other: Schema) -> Schema:
    return {"type": "object", "properties": {"a": one, "b": other}}


def needs(*names: str) -> Schema:
    return {"required": list(names)}


def open_objects(levels: int) -> Schema:
    def around(schema: Schema) -> Schema:
        return {"allOf": [pair({"type": "object"}, {"type": "object"}), {"type": "object", "additionalProperties": schema}]}

    return nested(levels, around)


def overlapping(levels: int) -> Schema:
    """Two trees whose inner nodes meet in pairs: each pair is written out twice by the one above."""
    defs: Schema = {f"d{levels}": {"type": "string"}, f"e{levels}": {"type": "string", "maxLength": 5}}
    for index in range(levels):
        for tree in "de":
            below = ref(f"{tree}{index + 1}")
            defs[f"{tree}{index}"] = {"type": "object", "properties": {"l": below, "r": {**below}}, "required": ["l"] if tree == "d" else []}
    return {"$defs": defs, "allOf": [ref("d0"), ref("e0")]}


def in_lists(names: dict[str, int]) -> Schema:
    return nested(6, lambda inner: {"type": "array", "items": inner, **names})


# Name, schema, a word of the complaint.
SCHEMA_BOMBS: list[tuple[str, Schema, str]] = [
    ("references that double in allOf", doubling(20, lambda _, r: pair({"allOf": [r, needs("x")]}, {"allOf": [r, needs("y")]})), "parts"),
    ("references that double beside keywords", doubling(20, lambda _, r: pair({**r, **needs("x")}, {**r, **needs("y")})), "parts"),
    ("references that double in items", doubling(20, lambda _, r: {"prefixItems": [{"allOf": [r, {}]}, {"allOf": [r, {"minProperties": 1}]}]}), "parts"),
    (
        "references that double by anchors",
        {"$defs": {"a": {"$anchor": "a", "allOf": [{"anyOf": [needs(str(i)) for i in range(60)]}] * 2}}, "$ref": "#a"},
        "parts",
    ),
    ("references that must all be there", doubling(30, lambda _, r: {**pair(r, r), **needs("a", "b")}, {"type": "string"}), "no text fits"),
    ("alternatives of references", doubling(14, lambda i, r: {"anyOf": [{"allOf": [r, needs(f"a{i}")]}, {"allOf": [r, needs(f"b{i}")]}]}), "parts"),
    ("alternatives that meet", {"allOf": [{"anyOf": [needs(f"a{i}"), needs(f"b{i}")]} for i in range(20)]}, "parts"),
    ("few that have many", {"allOf": [{"anyOf": [needs(f"{i} {j}") for j in range(40)]} for i in range(2)]}, "parts"),
    ("references to references", doubling(900, lambda i, r: {"allOf": [r, {"required": [f"{i}"]}]}), "levels deep"),
    (
        "a schema for every property of another",
        {"allOf": [{"properties": {f"p{i}": {} for i in range(100)}}, {"additionalProperties": {"enum": [[0] * 100]}}]},
        "parts",
    ),
    ("patterns for every property", {"properties": {f"p{i}": {} for i in range(100)}, "patternProperties": {"^p": {"enum": [[0] * 100]}}}, "parts"),
    ("open objects in open objects", open_objects(12), "parts"),
    ("trees that meet", overlapping(13), "parts"),
    ("a thousand items", {"prefixItems": [{}] * 10_000}, "more than 1000 properties or items"),
    ("too many properties", {"properties": {f"p{i}": {"type": "string"} for i in range(1500)}}, "more than 1000 properties or items"),
    ("too many required", {"type": "object", "required": [f"p{i}" for i in range(5000)]}, "more than 1000 properties or items"),
    ("an enum of objects", {"enum": [{"a": i, "b": [1, 2, {"c": i}]} for i in range(1000)]}, "parts"),
    ("an enum of 5,000", {"enum": [f"value number {i}" for i in range(5000)]}, "larger than 65536 bytes"),
    ("8,000 times anything", {"anyOf": [True] * 8000}, "parts"),
    ("8,000 times nothing", {"allOf": [{}] * 8000}, "parts"),
    ("many patterns of one text", {"allOf": [{"type": "string", "pattern": f".*{i}.{{{i + 20}}}"} for i in range(20)]}, "patterns and formats"),
    ("many patterns of names", {"patternProperties": {f"^q{i}_.*x.{{20}}$": {} for i in range(300)}}, "16 patternProperties"),
    ("a multiple of a large prime", {"type": "integer", "multipleOf": 982451653}, "multipleOf"),
    ("multiples that meet", {"allOf": [{"type": "integer", "multipleOf": p} for p in (97, 101, 103)]}, "multipleOf"),
    ("many multiples", {"anyOf": [{"type": "integer", "multipleOf": 9973 - i} for i in range(20)]}, "multipleOf"),
    ("a million items", {"type": "array", "items": {"type": "integer"}, "minItems": 1_000_000}, "no text fits"),
    ("a million characters", {"type": "string", "minLength": 1_000_000}, "no text fits"),
    ("lists of lists of lists", in_lists({"minItems": 9, "maxItems": 9}), "no text fits"),
    ("itself", {"$ref": "#"}, "no text fits"),
    ("each other", {"$defs": {"a": ref("b"), "b": ref("a")}, **ref("a")}, "no text fits"),
    ("an object that holds itself", {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "no text fits"),
    ("deep lists", nested(200, lambda inner: {"type": "array", "items": inner}), "deeper than 64 levels"),
    ("a pattern with a thousand stars", {"type": "string", "pattern": r"\w*" * 1000}, "repeats more than 256"),
    ("a pattern of a long text", {"properties": {"a": {"pattern": "^(ab){50000}$"}}}, "pattern matches nothing"),
]

PATTERN_BOMBS: list[tuple[str, str, str]] = [
    ("stars in a row", r"\w*" * 12_000, "repeats more than 256"),
    ("optional groups in a row", r"(\w+)?" * 1000, "repeats more than 256"),
    ("alternatives that repeat", "|".join(rf"\w{{{i}}}\s.*" for i in range(3000)), "repeats more than 256"),
    ("a long repetition", "a{1000000000}", "matches nothing"),
    ("a number of many digits", "a{" + "9" * 60_000 + "}", "matches nothing"),
    ("repetitions of repetitions", "((((x{50}){50}){50}){50}){50}", "matches nothing"),
    ("doubled twenty times", "(" * 20 + "a" + "){2}" * 20, "matches nothing"),
    ("too long", "(a|b)?" * 12_000, "longer than 65536"),
]

# Known for bringing others to their knees; an automaton follows them like any other, so they are no bombs here.
HARMLESS_PATTERNS = ["(a+)+$", "(a|a)*b", "(.*.*.*)*x", "(a|b)*a(a|b){30}", "((((x{1,50}){1,50}){1,50}){1,50}){1,50}"]

HARMLESS_SCHEMAS: list[Schema] = [
    {"type": "string", "maxLength": 4_294_967_295},
    {"type": "array", "items": {"type": "string"}, "maxItems": 1_000_000_000},
    {"type": "integer", "minimum": 0, "maximum": 2**53},
    {"type": "number", "multipleOf": 0.01},
    {"type": "integer", "multipleOf": 1_000_000},
    {"type": "integer", "multipleOf": 3600},
]


def _large_object(required: bool) -> Schema:
    kinds: list[Schema] = [
        {"type": "string", "description": "What a person would write about it, in a sentence or two."},
        {"type": "integer", "minimum": 0, "maximum": 100_000},
        {"type": "array", "items": {"type": "string"}, "maxItems": 20},
        {"enum": ["low", "middle", "high"]},
        {"anyOf": [{"type": "number"}, {"type": "null"}]},
    ]
    properties = {f"property_{index}": kinds[index % len(kinds)] for index in range(200)}
    return {"type": "object", "properties": properties, "required": list(properties) if required else [], "additionalProperties": False}


_NODE: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "next": {"anyOf": [ref("Node"), {"type": "null"}], "default": None},
        "children": {"type": "array", "items": ref("Node")},
    },
    "required": ["name", "children"],
    "additionalProperties": False,
}
_PERSON: Schema = {"type": "object", "properties": {"name": {"type": "string"}, "born": {"type": "string", "format": "date"}}, "required": ["name"]}

REAL_SCHEMAS: dict[str, Schema] = {
    "200 properties": _large_object(True),
    "200 optional properties": _large_object(False),
    "an enum of 500": {"type": "object", "properties": {"country": {"enum": [f"Country number {index}" for index in range(500)]}}, "required": ["country"]},
    "ten levels": nested(10, lambda inner: {"type": "object", "properties": {"inner": inner, "note": {"type": "string"}}, "required": ["inner"]}),
    "a tree": {"$defs": {"Node": _NODE}, **ref("Node")},
    "a list that may be long": {"type": "array", "minItems": 1, "maxItems": 100, "items": _PERSON},
    "Pydantic's way to refer": {
        "$defs": {"Node": {"type": "object", "properties": {"left": {"allOf": [ref("Node")], "description": "The smaller one."}}}},
        "allOf": [ref("Node")],
        "title": "Tree",
    },
    "inheritance": {
        "$defs": {"Person": _PERSON, "Staff": {"allOf": [ref("Person"), {"type": "object", "properties": {"boss": ref("Person")}, "required": ["boss"]}]}},
        "type": "array",
        "items": ref("Staff"),
    },
    "kinds told apart by a constant": {
        "type": "array",
        "items": {"anyOf": [{"type": "object", "properties": {"kind": {"const": f"k{i}"}, "at": ref("P")}, "required": ["kind"]} for i in range(40)]},
        "$defs": {"P": {"type": "object", "properties": {"x": {"type": "number"}, "y": {"type": "number"}}}},
    },
    "extensions": {"type": "object", "properties": {f"field{i}": {"type": "string"} for i in range(50)}, "patternProperties": {"^x-": {"type": "string"}}},
    "formats": {
        "type": "object",
        "properties": {name: {"type": "string", "format": name} for name in ("date-time", "date", "time", "email", "uuid", "ipv4", "ipv6", "uri", "hostname")},
    },
    "a list of settings that are maps": {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": {"$ref": "#"}}},
}
REAL_PATTERNS = [
    r"^[a-zA-Z0-9._%+-]{1,64}@[a-zA-Z0-9.-]{1,255}\.[a-zA-Z]{2,63}$",
    r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?",
    "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "|".join(f"word{index}" for index in range(1000)),
    "[A-Za-z0-9+/]{1000,}={0,2}",
    r"\p{Lu}\p{L}{1,40}(?: \p{Lu}\p{L}{1,40}){0,5}",
]
