"""Token ids and count of a text or of messages."""

from __future__ import annotations

from fastapi import APIRouter, Request

from gpu_backend.server.prompts import encode_messages, encode_text
from gpu_backend.server.schemas import TokenizeAnswer, TokenizeRequest
from gpu_backend.server.state import model_for
from gpu_backend.server.strict_json import StrictJsonRoute
from gpu_backend.server.tools import require_tools

router = APIRouter(route_class=StrictJsonRoute)


@router.post("/internal/tokenize")
async def create_tokenization(request: Request, body: TokenizeRequest) -> TokenizeAnswer:
    model, _ = model_for(request, body.model)
    if body.messages is not None:
        require_tools(request, model, body.messages)
        ids = await encode_messages(model, body.messages)
    else:
        assert body.text is not None
        ids = await encode_text(model, body.text)
    return TokenizeAnswer(model=body.model, ids=ids, count=len(ids), context_length=model.context_length)
