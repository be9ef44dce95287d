"""One choice of one request while it waits or runs: its tokens, how many of them are cached, and where. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field

from gpu_backend.core import LabelScores, Request, SamplingParams
from gpu_backend.decoding.early_exit.draft_length import Acceptance


@dataclass(eq=False, slots=True)
class Sequence:
    """`token_ids` is the prompt followed by what was generated; the first `num_computed` of them have keys and values in `blocks`.

    `num_cached` of them were found in the cache when it first started. `block_hashes` and `num_remembered` belong to the block manager. `acceptance` says
    how its drafts fared, where it has had any.
    """

    request: Request
    choice: int
    token_ids: list[int]
    num_computed: int = 0
    blocks: list[int] = field(default_factory=list)
    block_hashes: list[bytes] = field(default_factory=list)
    num_remembered: int = 0
    num_cached: int | None = None
    acceptance: Acceptance | None = None

    @classmethod
    def of(cls, request: Request, choice: int) -> Sequence:
        return cls(request, choice, list(request.prompt_ids))

    @property
    def num_pending(self) -> int:
        """Tokens that the next steps must still compute; 1 while decoding."""
        return len(self.token_ids) - self.num_computed

    @property
    def num_given(self) -> int:
        """Leading positions whose keys and values the request brought."""
        return 0 if self.request.conditioning is None else self.request.conditioning.num_positions

    @property
    def num_shared(self) -> int:
        """Leading positions that later prompts will want to find in the cache, also where the rest leaves early. The last one never is: it is what leaves."""
        task = self.request.task
        return min(self.num_given + task.num_shared, len(self.token_ids) - 1) if isinstance(task, LabelScores) else 0

    @property
    def num_generated(self) -> int:
        return len(self.token_ids) - len(self.request.prompt_ids)

    @property
    def most_drafts(self) -> int:
        """Drafts that could all become part of the answer: the last token of a round is the model's own."""
        task = self.request.task
        return task.max_tokens - self.num_generated - 1 if isinstance(task, SamplingParams) and task.drafts else 0
