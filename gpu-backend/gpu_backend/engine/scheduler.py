"""Step 7 of a request: decides which sequences run in the next step and with how many tokens. No torch here.

Every step gives each decoding sequence its one token, then fills the token budget with stretches of prompts, oldest first, so that a long prompt
never stalls running streams. When blocks run out, the youngest running sequence gives its blocks back and is computed anew later. A step without prompts
may draft tokens beyond the newest ones, where that pays.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from gpu_backend.config import EngineConfig
from gpu_backend.decoding.early_exit.draft_length import NO_DRAFTS, Acceptance, DraftLengths, DraftRule
from gpu_backend.engine.block_manager import BlockManager
from gpu_backend.engine.sequence import Sequence
from gpu_backend.engine.waiting_queue import WaitingQueue


class QueueFullError(Exception):
    """No room to wait."""


@dataclass(slots=True)
class Plan:
    """What one step computes: one token for each of `decodes`, `length` tokens for each of `prompts`; and how many tokens at most it drafts after some
    `decodes`, by `draft_rule`."""

    decodes: list[Sequence] = field(default_factory=list)
    prompts: list[tuple[Sequence, int]] = field(default_factory=list)
    drafts: dict[Sequence, int] = field(default_factory=dict)
    draft_rule: DraftRule = NO_DRAFTS

    def __bool__(self) -> bool:
        return bool(self.decodes or self.prompts)

    def entries(self) -> list[tuple[Sequence, int]]:
        """All sequences with their token counts, in the order of the flat batch."""
        return [(sequence, 1) for sequence in self.decodes] + self.prompts

    def by_request(self) -> list[Plan]:
        """The same work without drafts, one plan for each request."""
        parts: dict[str, Plan] = {}
        for sequence in self.decodes:
            parts.setdefault(sequence.request.id, Plan()).decodes.append(sequence)
        for sequence, length in self.prompts:
            parts.setdefault(sequence.request.id, Plan()).prompts.append((sequence, length))
        return list(parts.values())


class Scheduler:
    """`running` is ordered by age. Without `draft_lengths` nothing is drafted."""

    def __init__(self, config: EngineConfig, draft_lengths: DraftLengths | None = None) -> None:
        self._config = config
        self._draft_lengths = draft_lengths
        self.blocks = BlockManager(config.num_kv_blocks, config.kv_block_size, reuses_prefixes=config.reuses_prefixes)
        self.waiting = WaitingQueue()
        self.running: list[Sequence] = []
        self.num_preemptions = 0

    def add(self, sequences: list[Sequence]) -> None:
        """Queue all choices of a request or none. Raises QueueFullError."""
        config, count = self._config, len(sequences)
        num_tokens = sum(len(sequence.token_ids) for sequence in sequences)
        is_full = (
            len(self.waiting) + count > config.max_num_waiting
            or self.waiting.num_of(sequences[0].request.tenant) + count > config.max_num_waiting_per_tenant
            or (len(self.waiting) > 0 and self.waiting.num_tokens + num_tokens > config.max_waiting_tokens)
        )
        if is_full:
            raise QueueFullError
        for sequence in sequences:
            self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence that finished, failed or was cancelled, wherever it is."""
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self.blocks.release(sequence)

    def schedule(self) -> Plan:
        plan = Plan()
        num_preempted = self.num_preemptions
        budget = self._config.max_tokens_per_step - sum(sequence.num_pending == 1 for sequence in self.running)
        for sequence in list(self.running):
            if sequence not in self.running:
                continue
            length = 1 if sequence.num_pending == 1 else min(sequence.num_pending, budget)
            if length and self._make_room(sequence, sequence.num_computed + length):
                if sequence.num_pending == 1:
                    plan.decodes.append(sequence)
                else:
                    plan.prompts.append((sequence, length))
                    budget -= length
        if self.num_preemptions == num_preempted:
            self._admit(plan, budget)
            self._plan_drafts(plan, budget)
        return plan

    def advance(self, plan: Plan, left_early: Collection[Sequence] = ()) -> None:
        """Record that the planned tokens are computed. Of sequences that left early, all layers have seen only what came before and what is shared."""
        for sequence, length in plan.entries():
            num_whole = max(sequence.num_computed, sequence.num_shared) if sequence in left_early else sequence.num_computed + length
            sequence.num_computed += length
            if sequence.blocks:
                self.blocks.remember(sequence, num_whole)

    def accept(self, sequence: Sequence, num_guesses: int, num_accepted: int) -> None:
        """Record that these drafts, which are now tokens of the sequence, were computed along with the token before them."""
        assert sequence.acceptance is not None
        sequence.acceptance.note(num_guesses, num_accepted)
        sequence.num_computed += num_accepted
        self.blocks.remember(sequence, sequence.num_computed)

    def _plan_drafts(self, plan: Plan, budget: int) -> None:
        """Drafts for decoding sequences, if they pay, never at the cost of anybody's blocks. Beside prompts they would not: such a step computes, it does
        not wait for weights."""
        lengths = self._draft_lengths
        if lengths is None or plan.prompts:
            return
        willing = [sequence for sequence in plan.decodes if sequence.most_drafts > 0]
        for sequence in willing:
            sequence.acceptance = sequence.acceptance or Acceptance(lengths.prior)
        rates = [sequence.acceptance.rate for sequence in willing if sequence.acceptance]
        plan.draft_rule = lengths.choose(rates, len(plan.decodes) - len(willing))
        length = min(plan.draft_rule.most, budget // max(1, len(willing)))
        for sequence in willing:
            if sequence.acceptance and not length:
                sequence.acceptance.fade()
            count = min(length, sequence.most_drafts)
            num_tokens = sequence.num_computed + 1 + count
            if count > 0 and self.blocks.num_missing(sequence, num_tokens) + len(self.running) <= self.blocks.num_free:
                self.blocks.grow(sequence, num_tokens)
                plan.drafts[sequence] = count

    def _admit(self, plan: Plan, budget: int) -> None:
        """Start waiting sequences while there is budget, a place in the batch, and room for their tokens and one more block for everyone running."""
        while budget > 0 and len(self.running) < self._config.max_num_sequences:
            sequence = self.waiting.peek()
            if sequence is None or self._waits_for_sibling(sequence):
                return
            prefix = self.blocks.find_prefix(sequence)
            num_needed = self.blocks.num_missing(sequence, len(sequence.token_ids) + 1) - len(prefix) + self.blocks.num_evictable_among(prefix)
            if num_needed + len(self.running) > self.blocks.num_free:
                return
            self.waiting.pop()
            self.running.append(sequence)
            self.blocks.share(sequence, prefix)
            if sequence.num_cached is None:
                sequence.num_cached = sequence.num_computed
            length = min(sequence.num_pending, budget)
            self.blocks.grow(sequence, sequence.num_computed + length)
            plan.prompts.append((sequence, length))
            budget -= length

    def _waits_for_sibling(self, sequence: Sequence) -> bool:
        """The choices of one request share its prompt: the first computes it, the others begin when its blocks are known."""
        return self._config.reuses_prefixes and any(
            other.request is sequence.request and other.num_computed < len(other.request.prompt_ids) for other in self.running
        )

    def _make_room(self, sequence: Sequence, num_tokens: int) -> bool:
        """Grow a running sequence, preempting younger ones if needed; False when the sequence itself had to give way."""
        while self.blocks.num_missing(sequence, num_tokens) > self.blocks.num_free:
            youngest = self.running[-1]
            self._preempt(youngest)
            if youngest is sequence:
                return False
        self.blocks.grow(sequence, num_tokens)
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.blocks.release(sequence)
        sequence.num_computed = 0
        self.waiting.put_back(sequence)
        self.num_preemptions += 1
