"""Prompts that begin alike as one sequence: their common beginning is computed once, and none of them sees what is another's own.

Shapes: B rows of prompts, each a sequence padded at the right to T tokens, K prompts in all rows together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gpu_backend.models.reward.judge import common_prefix

_PAD = -1


class Sequences(NamedTuple):
    """What a decoder reads. `sees_BTT` says which tokens a token attends to; tokens that fill up are seen by no other."""

    ids_BT: Tensor
    positions_BT: Tensor
    sees_BTT: Tensor


class Branched(NamedTuple):
    """Rows of prompts as sequences; the last token of prompt k is at `last_K[k]` of sequence `rows_K[k]`, prompts in the order of their rows."""

    sequences: Sequences
    rows_K: Tensor
    last_K: Tensor


def branched(rows: Sequence[Sequence[tuple[int, ...]]], device: torch.device) -> Branched:
    """A sequence is the common beginning of the row's prompts, then the rest of each, which sees this beginning and itself, at the positions it has in its
    prompt: the same states as those of the prompts one by one, in fewer tokens.

    T is a multiple of 32: a product of a new shape costs the CPU's library a second or more to prepare, in all layers together.
    """
    ids: list[list[int]] = []
    positions: list[list[int]] = []
    branches: list[list[int]] = []
    last: list[tuple[int, int]] = []
    for number, prompts in enumerate(rows):
        shared = num_shared(prompts)
        ids.append(list(prompts[0][:shared]))
        positions.append(list(range(shared)))
        branches.append([0] * shared)
        for branch, prompt in enumerate(prompts, start=1):
            ids[-1] += prompt[shared:]
            positions[-1] += range(shared, len(prompt))
            branches[-1] += [branch] * (len(prompt) - shared)
            last.append((number, len(ids[-1]) - 1))
    width = -(-max(map(len, ids)) // 32) * 32
    ids_BT, positions_BT, branches_BT = (
        torch.tensor([[*line, *[fill] * (width - len(line))] for line in lines], device=device) for lines, fill in ((ids, 0), (positions, 0), (branches, _PAD))
    )
    own_BTT = branches_BT[:, :, None] == branches_BT[:, None, :]
    sees_BTT = (own_BTT | (branches_BT == 0)[:, None, :]).tril()
    rows_K, last_K = torch.tensor(last, device=device).unbind(dim=1)
    return Branched(Sequences(ids_BT, positions_BT, sees_BTT), rows_K, last_K)


def num_shared(prompts: Sequence[tuple[int, ...]]) -> int:
    """Tokens that all prompts begin with, less than any of them has: each keeps a last token of its own."""
    return min([len(prompts[0]) - 1, *(min(common_prefix(prompts[0], prompt), len(prompt) - 1) for prompt in prompts[1:])])


def branched_length(prompts: Sequence[tuple[int, ...]]) -> int:
    """Tokens of these prompts' sequence."""
    return sum(map(len, prompts)) - (len(prompts) - 1) * num_shared(prompts)
