"""Reads a JSON schema that nobody has checked yet: what its keywords hold, and what its references point to."""

from __future__ import annotations

from functools import cached_property
from typing import Any
from urllib.parse import unquote

# Keywords that say nothing about which values fit. The compiler knows the same ones.
ANNOTATIONS = frozenset(
    [
        "$anchor",
        "$comment",
        "$defs",
        "$id",
        "$schema",
        "contentEncoding",
        "contentMediaType",
        "default",
        "definitions",
        "description",
        "examples",
        "id",
        "readOnly",
        "title",
        "writeOnly",
    ]
)
Node = dict[str, Any]


def nodes_by_name(node: Node, keyword: str) -> Node:
    value = node.get(keyword)
    return value if isinstance(value, dict) else {}


def items_of(node: Node, keyword: str) -> list[Any]:
    value = node.get(keyword)
    return value if isinstance(value, list) else []


def count_of(node: Node, keyword: str) -> float:
    """A number from 0 on; 0 where there is none."""
    value = node.get(keyword)
    return max(value, 0) if isinstance(value, (int, float)) else 0


class References:
    """What `$ref` means in one schema. Nothing is fetched."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self._found: dict[str, Any] = {}

    def target(self, node: Node) -> Any:
        """What the node refers to; None where it refers to nothing of this schema."""
        reference = node.get("$ref")
        if not isinstance(reference, str):
            return None
        if reference not in self._found:
            self._found[reference] = self._find(reference)
        return self._found[reference]

    def _find(self, reference: str) -> Any:
        resource, _, fragment = reference.partition("#")
        found = self._by_name.get(resource) if resource else self._root
        if fragment and not fragment.startswith("/"):
            return self._by_name.get("#" + fragment)
        for step in unquote(fragment).split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict):
                found = found.get(key)
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                return None
        return found

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        """Nodes by their `$id`, and by their `$anchor` behind a `#`."""
        named: dict[str, Node] = {}
        stack: list[Any] = [self._root]
        while stack:
            item = stack.pop()
            if isinstance(item, dict):
                for keyword, prefix in (("$id", ""), ("$anchor", "#")):
                    if isinstance(item.get(keyword), str):
                        named.setdefault(prefix + item[keyword], item)
                stack += item.values()
            elif isinstance(item, list):
                stack += item
        return named
