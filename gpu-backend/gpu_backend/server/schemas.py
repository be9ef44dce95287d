"""Bodies of the internal API, as docs/internal-contract.md describes them. The edge has already said no politely; these bounds are the second lock."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gpu_backend.adapters.content import ID_PATTERN

AdapterId = Annotated[str, Field(pattern=ID_PATTERN)]


class StrictModel(BaseModel):
    """Unknown fields are errors: a field that is silently ignored is a bug of the contract."""

    model_config = ConfigDict(extra="forbid", strict=True)


FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
CallId = Annotated[str, Field(min_length=1, max_length=128)]


class CalledFunction(StrictModel):
    name: FunctionName
    arguments: str


class ToolCall(StrictModel):
    id: CallId
    type: Literal["function"]
    function: CalledFunction


class Message(StrictModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str
    tool_calls: Annotated[list[ToolCall], Field(max_length=128)] = []
    tool_call_id: CallId | None = None


class ToolFunction(StrictModel):
    name: FunctionName
    description: Annotated[str, Field(max_length=16_384)] | None = None
    parameters: dict[str, Any] | None = None
    strict: bool = False


class Tool(StrictModel):
    type: Literal["function"]
    function: ToolFunction


class JsonObjectFormat(StrictModel):
    type: Literal["json_object"]


class JsonSchemaFormat(StrictModel):
    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())

    type: Literal["json_schema"]
    json_schema: dict[str, Any]


class RegexFormat(StrictModel):
    type: Literal["regex"]
    pattern: Annotated[str, Field(min_length=1)]


class ChoiceFormat(StrictModel):
    type: Literal["choice"]
    choices: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=256)]


ResponseFormat = Annotated[JsonObjectFormat | JsonSchemaFormat | RegexFormat | ChoiceFormat, Field(discriminator="type")]


class EarlyExit(StrictModel):
    mode: Literal["auto", "off", "lossless", "gated"] = "auto"
    max_risk: Annotated[float, Field(gt=0, lt=1)] | None = None


class ChatRequest(StrictModel):
    id: Annotated[str, Field(min_length=1, max_length=128)]
    created: int
    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    stop: Annotated[list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(max_length=4)] = []
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] = 1
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    logit_bias: Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)] = {}
    stream: bool = False
    include_usage: bool = False
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] = []
    tool_choice: Literal["none", "auto", "required"] = "auto"
    tool_name: FunctionName | None = None
    parallel_tool_calls: bool = True
    tenant: Annotated[str, Field(max_length=128)] = ""
    end_user: Annotated[str, Field(max_length=512)] = ""
    priority: Annotated[int, Field(ge=-4, le=4)] = 0
    adapter: AdapterId | None = None
    early_exit: EarlyExit | None = None


class AdapterInfo(BaseModel):
    id: str
    bytes: int


class TokenizeRequest(StrictModel):
    model: str
    text: str | None = None
    messages: Annotated[list[Message], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_input(self) -> TokenizeRequest:
        if (self.text is None) == (self.messages is None):
            raise ValueError("give either text or messages")
        return self


class TokenizeAnswer(BaseModel):
    model: str
    ids: list[int]
    count: int
    context_length: int


class ModelInfo(BaseModel):
    id: str
    created: int
    owned_by: str
    revision: str
    context_length: int
    capabilities: tuple[str, ...]
    languages: tuple[str, ...]
    license: str
    shutdown_date: str | None


class ModelList(BaseModel):
    data: list[ModelInfo]
