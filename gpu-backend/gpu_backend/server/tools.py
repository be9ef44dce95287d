"""Tools of a chat request: what the model is told of them, and the grammar that holds its calls to their schemas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import Request

from gpu_backend.core import GrammarError
from gpu_backend.server.errors import BackendError
from gpu_backend.server.schemas import ChatRequest, Message, ToolFunction
from gpu_backend.server.state import models_with_tools

if TYPE_CHECKING:
    from gpu_backend.decoding.grammar import CompiledGrammar
    from gpu_backend.server.served_model import ServedModel


@dataclass(frozen=True, slots=True)
class ToolPlan:
    """`shown` are all tools, for the template; `functions` are those that the answer may call, with their places, between tokens of the ids `tokens`."""

    shown: list[dict[str, Any]]
    functions: list[tuple[int, ToolFunction]]
    tokens: tuple[int, int]
    must_call: bool
    is_parallel: bool


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """The grammar of an answer, the token from which on it holds when that is not the first, and the tokens between which calls lie, if there may be any."""

    grammar: CompiledGrammar | None
    trigger: int | None = None
    tool_call_tokens: tuple[int, int] | None = None


def require_tools(request: Request, model: ServedModel, messages: list[Message], *, has_tools: bool = False) -> None:
    """Raises unsupported_value where a model without tools is given some, or a conversation with calls."""
    param = "tools" if has_tools else _tool_message(messages)
    if param is None or model.tool_call_tokens is not None:
        return
    others = models_with_tools(request)
    can = f"Models that can: {', '.join(others)}." if others else "No model that is served here can."
    raise BackendError("unsupported_value", f"{model.spec.id} cannot call tools. {can}", param=param)


def plan_tools(model: ServedModel, body: ChatRequest) -> ToolPlan | None:
    """None when nothing may be called. Raises invalid_value for tools and choices that cannot be."""
    _check_names(body)
    _check_schemas(body)
    if model.tool_call_tokens is None or not body.tools or body.tool_choice == "none":
        return None
    functions = [(index, tool.function) for index, tool in enumerate(body.tools)]
    return ToolPlan(
        shown=[_shown(function) for _, function in functions],
        functions=[(index, function) for index, function in functions if body.tool_name in (None, function.name)],
        tokens=model.tool_call_tokens,
        must_call=body.tool_choice == "required",
        is_parallel=body.parallel_tool_calls and body.tool_name is None,
    )


async def to_answer_form(model: ServedModel, plan: ToolPlan | None, answer: CompiledGrammar | None) -> AnswerForm:
    """`answer` is the grammar of an answer that calls nothing. Compiles off the event loop. Raises invalid_value that names the tool at fault."""
    if plan is None:
        return AnswerForm(answer)
    try:
        grammar = await model.compile_grammar(_grammar_of(plan, None if plan.must_call or answer is None else answer.text))
    except GrammarError as error:
        complaint = error
        raise await model.grammar_queue.run(lambda: _fault_of(model, plan, complaint)) from error
    return AnswerForm(grammar, None if plan.must_call or answer is not None else plan.tokens[0], plan.tokens)


def _grammar_of(plan: ToolPlan, answer: str | None) -> str:
    from gpu_backend.decoding.tool_calls import Function, tool_call_grammar

    functions = [Function(function.name, _parameters(function), function.strict) for _, function in plan.functions]
    return tool_call_grammar(functions, plan.tokens, is_parallel=plan.is_parallel, answer=answer)


def _fault_of(model: ServedModel, plan: ToolPlan, error: GrammarError) -> BackendError:
    """Compiles one after the other to say which cannot be used; when each alone can, they are too much together."""
    for index, function in plan.functions:
        alone = ToolPlan([], [(index, function)], plan.tokens, must_call=True, is_parallel=False)
        try:
            model.grammars.compile(_grammar_of(alone, None))
        except GrammarError as own:
            param = f"tools[{index}].function.parameters"
            return BackendError("invalid_value", f"{param} cannot be used: {own}.", param=param)
    return BackendError("invalid_value", f"tools cannot be used together: {error}.", param="tools")


def _check_names(body: ChatRequest) -> None:
    names: set[str] = set()
    for index, tool in enumerate(body.tools):
        if tool.function.name in names:
            param = f"tools[{index}].function.name"
            raise BackendError("invalid_value", f"{param}: another tool is called {tool.function.name!r}.", param=param)
        names.add(tool.function.name)
    if body.tool_choice == "required" and not body.tools:
        raise BackendError("invalid_value", "tool_choice needs tools to choose from.", param="tool_choice")
    if body.tool_name is not None and (body.tool_name not in names or body.tool_choice != "required"):
        raise BackendError("invalid_value", f"tool_choice: no tool is called {body.tool_name!r}.", param="tool_choice")


def _check_schemas(body: ChatRequest) -> None:
    """Bounds on all schemas together, and on the depth of each, before anything recurses into them."""
    from gpu_backend.decoding.grammar import MAX_DEPTH, MAX_GRAMMAR_BYTES, depth_of, num_parts_of, text_of
    from gpu_backend.decoding.schema_size import check_total

    num_bytes = num_parts = 0
    for index, tool in enumerate(body.tools):
        param = f"tools[{index}].function.parameters"
        schema = tool.function.parameters or {}
        if schema.get("type", "object") != "object":
            raise BackendError("invalid_value", f"{param}.type must be 'object'.", param=f"{param}.type")
        if depth_of(schema) > MAX_DEPTH:
            raise BackendError("invalid_value", f"{param} is nested deeper than {MAX_DEPTH} levels.", param=param)
        try:
            text = text_of(schema)
            num_bytes += len(text)
            if num_bytes <= MAX_GRAMMAR_BYTES:
                num_parts += num_parts_of(text)
        except GrammarError as error:
            raise BackendError("invalid_value", f"{param} cannot be used: {error}.", param=param) from error
        if num_bytes > MAX_GRAMMAR_BYTES:
            raise BackendError("invalid_value", f"{param}: the schemas are larger than {MAX_GRAMMAR_BYTES} bytes together.", param="tools")
    try:
        check_total(num_parts)
    except GrammarError as error:
        raise BackendError("invalid_value", f"tools cannot be used together: {error}.", param="tools") from error


def _tool_message(messages: list[Message]) -> str | None:
    """Where the conversation first speaks of tools."""
    for index, message in enumerate(messages):
        if message.role == "tool":
            return f"messages[{index}].role"
        if message.tool_calls:
            return f"messages[{index}].tool_calls"
    return None


def _parameters(function: ToolFunction) -> dict[str, Any]:
    """The schema that arguments must fit: always one of objects; without one, the empty object."""
    if function.parameters is None:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    return {"type": "object", **function.parameters}


def _shown(function: ToolFunction) -> dict[str, Any]:
    """As chat templates expect a tool; `strict` is between the caller and us."""
    told: dict[str, Any] = {"name": function.name}
    if function.description is not None:
        told["description"] = function.description
    told["parameters"] = {"type": "object", "properties": {}} if function.parameters is None else function.parameters
    return {"type": "function", "function": told}
