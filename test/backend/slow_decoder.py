"""A decoder of the Llama family written out plainly, from recorded weights: no cache, no batch, no code of ours. The twin of what the engine carries.

Shapes: T tokens, P positions of a prefix, H heads, G key/value heads, D head size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from support import TINY

NUM_HEADS, NUM_KV_HEADS = TINY["num_attention_heads"], TINY["num_key_value_heads"]
HEAD_DIM, NUM_LAYERS = TINY["hidden_size"] // NUM_HEADS, TINY["num_hidden_layers"]
Look = Callable[[int, Tensor], Tensor]


def slow_decoder(
    weights: dict[str, Tensor], token_ids: list[int], *, prefix: tuple[Tensor, Tensor] | None = None, look: Look | None = None
) -> tuple[list[Tensor], Tensor]:
    """-> the residual stream (T, hidden) after 0, 1, … layers, and the logits (T, V). `prefix` has keys and values (layers, P, G, D); `look` is called
    after each layer."""
    num_before = 0 if prefix is None else prefix[0].shape[1]
    x = weights["model.embed_tokens.weight"][token_ids]
    stream = [x]
    for layer in range(NUM_LAYERS):
        name = f"model.layers.{layer}"
        before = None if prefix is None else (prefix[0][layer], prefix[1][layer])
        x = x + _attend(weights, f"{name}.self_attn", _norm(x, weights[f"{name}.input_layernorm.weight"]), num_before, before)
        normed = _norm(x, weights[f"{name}.post_attention_layernorm.weight"])
        gate, up = (normed @ weights[f"{name}.mlp.{part}_proj.weight"].T for part in ("gate", "up"))
        x = x + (gate * torch.sigmoid(gate) * up) @ weights[f"{name}.mlp.down_proj.weight"].T
        if look is not None:
            x = look(layer, x)
        stream.append(x)
    return stream, _norm(x, weights["model.norm.weight"]) @ weights["model.embed_tokens.weight"].T


def slow_answer(weights: dict[str, Tensor], prompt: list[int], max_tokens: int, **more: object) -> str:
    """The most probable continuation, as the byte tokenizer of the tests shows it."""
    token_ids = list(prompt)
    for _ in range(max_tokens):
        token_ids.append(int(slow_decoder(weights, token_ids, **more)[1][-1].argmax()))  # type: ignore[arg-type]
    return bytes(token_ids[len(prompt) :]).decode("utf-8", errors="replace")


def _attend(weights: dict[str, Tensor], name: str, x: Tensor, num_before: int, before: tuple[Tensor, Tensor] | None) -> Tensor:
    """One head and one position at a time."""
    num_tokens = x.shape[0]
    q, k, v = ((x @ weights[f"{name}.{part}_proj.weight"].T).view(num_tokens, -1, HEAD_DIM) for part in "qkv")
    q, k = (torch.stack([_rotate(heads[at], num_before + at) for at in range(num_tokens)]) for heads in (q, k))
    if before is not None:
        k, v = torch.cat((before[0], k)), torch.cat((before[1], v))
    mixed = torch.empty(num_tokens, NUM_HEADS, HEAD_DIM)
    for head in range(NUM_HEADS):
        group = head // (NUM_HEADS // NUM_KV_HEADS)
        for at in range(num_tokens):
            seen = num_before + at + 1
            weight = torch.softmax(k[:seen, group] @ q[at, head] / HEAD_DIM**0.5, dim=0)
            mixed[at, head] = weight @ v[:seen, group]
    return mixed.view(num_tokens, -1) @ weights[f"{name}.o_proj.weight"].T


def _rotate(heads: Tensor, position: int) -> Tensor:
    """As complex numbers: the pair (i, i + D/2) turns by position * theta^(-2i/D)."""
    half = HEAD_DIM // 2
    angles = position * TINY["rope_theta"] ** (-torch.arange(half, dtype=torch.float64) * 2 / HEAD_DIM)
    turned = torch.complex(heads[:, :half].double(), heads[:, half:].double()) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((turned.real, turned.imag), dim=1).float()


def _norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.pow(2).mean(dim=-1, keepdim=True) + TINY["rms_norm_eps"]).sqrt() * weight
