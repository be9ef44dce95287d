"""Rounds of drafts on a model of arithmetic: the worked trace, and which layers run on how many rows."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from draft_support import INVITING
from prometheus_client import CollectorRegistry
from torch import Tensor

from gpu_backend.config import EngineConfig
from gpu_backend.core import Delta
from gpu_backend.decoding.early_exit.draft_length import DraftLengths, DraftRule
from gpu_backend.decoding.early_exit.drafter import Guesses
from gpu_backend.engine.batches import Batches
from gpu_backend.engine.draft_round import DraftRound
from gpu_backend.engine.engine import Engine
from gpu_backend.engine.metrics import EngineMetrics
from gpu_backend.engine.model_runner import ModelRunner
from gpu_backend.engine.sequence import Sequence
from gpu_backend.layers.batch import ForwardBatch
from gpu_backend.layers.kv_cache import PagedKVCache
from support import byte_tokenizer, request

VOCAB, EXIT, DEPTH = 7, 1, 2


class SumModel:
    """The next token is (sum of all tokens + 1) mod 7. Layer 1 stores tokens in the cache and sums what its row can see; layer 2 needs nothing more.

    The residual stream is (token, sum, number of tokens). `passes` lists (first layer, rows) of every pass.
    """

    rounds_logits = False

    def __init__(self) -> None:
        self.config = SimpleNamespace(vocab_size=VOCAB, num_layers=DEPTH, hidden_size=3, max_positions=64)
        self.device = torch.device("cpu")
        self.passes: list[tuple[int, int]] = []

    def new_cache(self, *, num_blocks: int, block_size: int) -> PagedKVCache:
        size = {"num_kv_heads": 1, "head_dim": 1, "num_blocks": num_blocks, "block_size": block_size}
        return PagedKVCache(num_layers=DEPTH, dtype=torch.float32, device=self.device, **size)

    def embed(self, token_ids_N: Tensor) -> Tensor:
        return torch.stack((token_ids_N.float(), torch.zeros(len(token_ids_N)), torch.zeros(len(token_ids_N))), dim=1)

    def run_layers(self, x: Tensor, start: int, stop: int, cache: PagedKVCache, batch: ForwardBatch) -> Tensor:
        self.passes.append((start, len(x)))
        if start > 0:
            return x
        tokens_N11 = x[:, :1].unsqueeze(-1)
        cache.write(0, batch.slots_N, tokens_N11, tokens_N11)
        rows = batch.paged_rows
        out = x.clone()
        for row, (blocks_M, length) in enumerate(zip(rows.blocks_NM, rows.lengths_N.tolist(), strict=True)):
            seen = cache.read(0, blocks_M)[0][0, 0, :length, 0]
            out[row, 1:] = torch.stack((seen.sum(), torch.tensor(float(length))))
        return out

    def run_layers_noting(self, x: Tensor, start: int, layers: tuple[int, ...], cache: PagedKVCache, batch: ForwardBatch) -> Tensor:
        (layer,) = layers
        return self.run_layers(x, start, layer, cache, batch)[:, None]

    def compute_logits(self, x: Tensor) -> Tensor:
        return torch.nn.functional.one_hot((x[:, 1].long() + 1) % VOCAB, VOCAB).float()

    def __call__(self, batch: ForwardBatch, cache: PagedKVCache) -> Tensor:
        return self.run_layers(self.embed(batch.token_ids_N), 0, DEPTH, cache, batch)


class SumDrafter:
    """Right, but for one too many (mod 7) wherever the number of tokens is a multiple of 3."""

    exit_layer = EXIT
    inner_layers = ()
    draft_alone = None

    def __init__(self, chance: float = 1.0) -> None:
        self.chance = chance
        self.drafts: list[int] = []
        self.known: list[tuple[int, tuple[int, ...]]] = []

    def fuse(self, deep_KRH: Tensor) -> Tensor:
        return deep_KRH[:, -1]

    def draft(self, x_KH: Tensor, known_KH: Tensor) -> Guesses:
        """What was known is what full depth said of the position before; after a draft it is this very state, one further."""
        tokens = [int(total + 1 + (num % 3 == 0)) % VOCAB for _, total, num in x_KH.tolist()]
        self.drafts += tokens
        self.known += [(int(num), tuple(map(int, known_H))) for (_, _, num), known_H in zip(x_KH.tolist(), known_KH.tolist(), strict=True)]
        return Guesses(tokens, [self.chance] * len(tokens), [self.chance] * len(tokens), known_KH + 100)


def test_one_round_of_the_worked_trace() -> None:
    """After the token 1 the drafts are 2 4 2; at full depth 2 4 1 3 come next, so two drafts hold and the third is replaced."""
    model = SumModel()
    cache = model.new_cache(num_blocks=4, block_size=4)
    drafting = DraftRound(model, cache, Batches(model.device, 4, {}, None), SumDrafter())
    sequence = Sequence(request("r", [1]), 0, [1], blocks=[2])
    (row,) = drafting.run([sequence], {sequence: 3}, DraftRule(3, 0.0, 0.0))
    assert row.logits_V is not None
    assert [draft.token_id for draft in row.drafted] == [2, 4, 2]
    assert [int(logits_V.argmax()) for logits_V in (row.logits_V, *(draft.logits_V for draft in row.drafted))] == [2, 4, 1, 3]
    # Four passes of one row below the exit, one of four rows above.
    assert model.passes == [(0, 1), (0, 1), (0, 1), (0, 1), (1, 4)]


def test_drafts_end_where_their_chance_together_is_too_small() -> None:
    model = SumModel()
    cache = model.new_cache(num_blocks=4, block_size=4)
    drafting = DraftRound(model, cache, Batches(model.device, 4, {}, None), SumDrafter(chance=0.7))
    sequence = Sequence(request("r", [1]), 0, [1], blocks=[2])
    (row,) = drafting.run([sequence], {sequence: 3}, DraftRule(3, 0.4, 0.4))
    # 0.7 and 0.49 are enough, 0.343 is not: the third guess is dropped, and no layer runs for it.
    assert [draft.token_id for draft in row.drafted] == [2, 4] and row.num_guesses == 3
    assert model.passes == [(0, 1), (0, 1), (0, 1), (1, 3)]
    (row,) = drafting.run([sequence], {sequence: 3}, DraftRule(3, 0.8, 0.8))
    assert row.drafted == () and row.num_guesses == 1 and model.passes[4:] == [(0, 1), (1, 1)]
    # 0.7 is kept, and too little for another guess.
    (row,) = drafting.run([sequence], {sequence: 3}, DraftRule(3, 0.4, 0.75))
    assert [draft.token_id for draft in row.drafted] == [2] and row.num_guesses == 1 and model.passes[6:] == [(0, 1), (0, 1), (1, 2)]


def test_the_worked_trace() -> None:
    """Ten tokens, three drafts a round. The prompt's own step brings the first token, so the rounds stand one token later than in the trace."""
    model, drafter = SumModel(), SumDrafter()
    config = EngineConfig(max_num_sequences=1, max_tokens_per_step=16, kv_block_size=4, kv_cache_tokens=64, reuses_prefixes=False)
    lengths = DraftLengths(INVITING, prior=1.0, most=3)
    engine = Engine("sum", ModelRunner(model, config, drafter=drafter), byte_tokenizer(), config, (), EngineMetrics(CollectorRegistry()), draft_lengths=lengths)
    engine.add(request("r", [1], max_tokens=10, logprobs=True, drafts=True))
    tokens: list[int] = []
    rounds: list[int] = []
    while engine.has_work:
        new = [token.token_id for _, event in engine.step() if isinstance(event, Delta) for token in event.logprobs]
        tokens += new
        rounds.append(len(new))
    assert tokens == [2, 4, 1, 2, 4, 1, 2, 4, 1, 2]
    # By length of what stands before: 2 right, 3 wrong, whatever follows; 4 and 5 right, 6 wrong; 7 and 8 right, 9 wrong; the last token needs no draft.
    assert rounds == [1, 2, 3, 3, 1]
    assert drafter.drafts == [4, 2, 3, 2, 4, 2, 2, 4, 2]
    # (token, sum, number) of the last position that full depth had seen, as each round's first draft found them; 100 more for each draft since.
    first = [(2, (1, 1, 1)), (4, (4, 7, 3)), (7, (4, 14, 6))]
    assert drafter.known == [(num + step, tuple(part + 100 * step for part in seen)) for num, seen in first for step in range(3)]
