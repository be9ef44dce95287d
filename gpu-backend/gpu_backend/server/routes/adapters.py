"""Adapters by content hash: the edge keeps them and puts here what this backend is to use."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect

from gpu_backend.adapters.content import IncomingAdapter, stored_bytes
from gpu_backend.core import AdapterError
from gpu_backend.server.errors import BackendError
from gpu_backend.server.schemas import AdapterId, AdapterInfo

router = APIRouter()


@router.put("/internal/adapters/{adapter_id}")
async def put_adapter(request: Request, adapter_id: AdapterId) -> AdapterInfo:
    """The body is the content that adapters/content.py describes. It replaces nothing but itself, so it may be repeated."""
    incoming = await asyncio.to_thread(IncomingAdapter, _root(request))
    try:
        async for piece in request.stream():
            await asyncio.to_thread(incoming.write, piece)
        return AdapterInfo(id=adapter_id, bytes=await asyncio.to_thread(incoming.commit, adapter_id))
    except AdapterError as error:
        raise BackendError("invalid_value", f"The adapter was not stored: {error}.") from error
    except ClientDisconnect as error:
        raise BackendError("invalid_value", "The adapter was not stored: the client left.") from error
    finally:
        await asyncio.to_thread(incoming.close)


@router.head("/internal/adapters/{adapter_id}")
@router.get("/internal/adapters/{adapter_id}")
async def get_adapter(request: Request, adapter_id: AdapterId) -> AdapterInfo:
    num_bytes = await asyncio.to_thread(stored_bytes, _root(request), adapter_id)
    if num_bytes is None:
        raise BackendError("not_found", "This backend does not have the adapter.")
    return AdapterInfo(id=adapter_id, bytes=num_bytes)


def _root(request: Request) -> Path:
    root: Path | None = request.app.state.config.adapters_dir
    if root is None:
        raise BackendError("not_found", "This backend keeps no adapters.")
    return root
