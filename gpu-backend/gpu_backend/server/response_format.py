"""The form an answer must have, as a grammar that compiles for the model at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpu_backend.core import GrammarError
from gpu_backend.server.errors import BackendError
from gpu_backend.server.schemas import ChoiceFormat, JsonObjectFormat, JsonSchemaFormat, RegexFormat

if TYPE_CHECKING:
    from gpu_backend.decoding.grammar import CompiledGrammar
    from gpu_backend.server.served_model import ServedModel

AnyFormat = JsonObjectFormat | JsonSchemaFormat | RegexFormat | ChoiceFormat


async def to_grammar(model: ServedModel, wanted: AnyFormat | None) -> CompiledGrammar | None:
    """Compiles off the event loop. Raises invalid_value with the compiler's reason."""
    if wanted is None:
        return None
    try:
        return await model.compile_grammar(_grammar_of(wanted))
    except GrammarError as error:
        param = "response_format.json_schema.schema" if isinstance(wanted, JsonSchemaFormat) else "response_format"
        raise BackendError("invalid_value", f"{param} cannot be used: {error}.", param=param) from error


def _grammar_of(wanted: AnyFormat) -> str:
    from gpu_backend.decoding.grammar import choice_grammar, json_grammar, regex_grammar

    if isinstance(wanted, JsonObjectFormat):
        return json_grammar({"type": "object"})
    if isinstance(wanted, JsonSchemaFormat):
        return json_grammar(wanted.json_schema)
    if isinstance(wanted, RegexFormat):
        return regex_grammar(wanted.pattern)
    return choice_grammar(wanted.choices)
