"""Paged attention against the textbook formula, by hand and on random tensors, whatever way the tokens are cut into steps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gpu_backend.layers.attention import Attention
from gpu_backend.layers.batch import ForwardBatch, PromptSpan
from gpu_backend.layers.kv_cache import PagedKVCache
from gpu_backend.layers.rope import RopeConfig, RotaryTable


def new_cache(num_kv_heads: int, head_dim: int, num_blocks: int = 8, block_size: int = 4) -> PagedKVCache:
    return PagedKVCache(
        num_layers=1,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        num_blocks=num_blocks,
        block_size=block_size,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )


def slots(blocks: list[int], first: int, length: int, block_size: int = 4) -> Tensor:
    return torch.tensor([blocks[at // block_size] * block_size + at % block_size for at in range(first, first + length)])


def prompt_batch(blocks: list[int], first: int, length: int) -> ForwardBatch:
    span = PromptSpan(0, length, first + length, torch.tensor(blocks))
    # Rotation is not the subject here: at position 0 it changes nothing, so every token claims to stand there.
    return ForwardBatch(torch.empty(0), torch.zeros(length, dtype=torch.long), slots(blocks, first, length), 0, None, None, (span,))


def decode_batch(tables: list[list[int]], lengths: list[int]) -> ForwardBatch:
    columns = max(map(len, tables))
    where = torch.cat([slots(table, length - 1, 1) for table, length in zip(tables, lengths, strict=True)])
    padded = torch.tensor([table + [0] * (columns - len(table)) for table in tables])
    return ForwardBatch(torch.empty(0), torch.zeros_like(where), where, len(tables), padded, torch.tensor(lengths), ())


def attend(queries_NHD: Tensor, keys_NGD: Tensor, values_NGD: Tensor, cache: PagedKVCache, layer: int, batch: ForwardBatch) -> Tensor:
    rotary = RotaryTable(RopeConfig(head_dim=queries_NHD.shape[-1], theta=10_000.0), 1, torch.device("cpu"))
    attention = Attention(queries_NHD.shape[1], keys_NGD.shape[1], rotary)
    return attention(torch.cat((queries_NHD, keys_NGD, values_NGD), dim=1), cache, layer, batch)


def textbook(queries_NHD: Tensor, keys_NGD: Tensor, values_NGD: Tensor) -> Tensor:
    """softmax(q k / sqrt(d)) v over all earlier positions, head by head."""
    num_tokens, num_heads, head_dim = queries_NHD.shape
    repeats = num_heads // keys_NGD.shape[1]
    out = torch.empty(num_tokens, num_heads, head_dim)
    for head in range(num_heads):
        for token in range(num_tokens):
            scores = keys_NGD[: token + 1, head // repeats] @ queries_NHD[token, head] / math.sqrt(head_dim)
            out[token, head] = torch.softmax(scores, 0) @ values_NGD[: token + 1, head // repeats]
    return out.flatten(1)


def test_two_positions_by_hand() -> None:
    """Head size 2, both numbers alike: 2 * q * k / sqrt(2) is ln 3 for k = 1 and 0 for k = 0, so weights 3/4 and 1/4, values 4 and 8 -> 5."""
    query, keys, values = (torch.tensor(rows).view(2, 1, 1).expand(2, 1, 2) for rows in ([0.0, math.log(3) / math.sqrt(2)], [0.0, 1.0], [8.0, 4.0]))
    out = attend(query, keys, values, new_cache(1, 2), 0, prompt_batch([2], 0, 2))
    assert torch.allclose(out, torch.tensor([[8.0, 8.0], [5.0, 5.0]]))


@pytest.mark.parametrize("cuts", [[11], [4, 7], [1] * 11, [5, 1, 1, 4], [10, 1]])
def test_any_cut_into_steps_gives_the_textbook_result(cuts: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = (torch.randn(11, heads, 8, generator=generator) for heads in (6, 2, 2))
    cache, blocks, parts, first = new_cache(2, 8), [5, 0, 3], [], 0
    for length in cuts:
        stretch = slice(first, first + length)
        batch = decode_batch([blocks], [first + 1]) if length == 1 else prompt_batch(blocks, first, length)
        parts.append(attend(queries[stretch], keys[stretch], values[stretch], cache, 0, batch))
        first += length
    assert torch.allclose(torch.cat(parts), textbook(queries, keys, values), atol=1e-5)


def test_rows_of_different_length_do_not_see_each_other_or_the_padding() -> None:
    generator = torch.Generator().manual_seed(1)
    lengths, tables = [3, 9], [[1], [4, 2, 6]]
    sequences = [tuple(torch.randn(length, heads, 8, generator=generator) for heads in (4, 2, 2)) for length in lengths]
    cache = new_cache(2, 8)
    for (queries, keys, values), table, length in zip(sequences, tables, lengths, strict=True):
        attend(queries[:-1], keys[:-1], values[:-1], cache, 0, prompt_batch(table, 0, length - 1))
    last = [torch.stack([sequence[part][-1] for sequence in sequences]) for part in range(3)]
    out = attend(last[0], last[1], last[2], cache, 0, decode_batch(tables, lengths))
    for row, (queries, keys, values) in enumerate(sequences):
        assert torch.allclose(out[row], textbook(queries, keys, values)[-1], atol=1e-5)


def test_what_a_neighbour_left_in_the_padding_cannot_poison_a_row() -> None:
    """The block table of the short row is padded with block 0, whose owner has numbers that are none."""
    cache = new_cache(1, 8)
    cache.layers[0][:, 0] = float("nan")
    generator = torch.Generator().manual_seed(2)
    queries, keys, values = (torch.randn(2, 1, 8, generator=generator) for _ in range(3))
    out = attend(queries, keys, values, cache, 0, decode_batch([[1], [2, 3, 4]], [1, 9]))
    assert out[0].isfinite().all()
