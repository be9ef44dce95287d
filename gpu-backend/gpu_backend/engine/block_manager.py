"""Hands out the blocks of the paged cache and takes them back. No torch here."""

from __future__ import annotations

from gpu_backend.engine.sequence import Sequence


class BlockManager:
    """Invariant: every block is either free or in exactly one sequence's `blocks`."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._free = list(range(num_blocks))

    @property
    def num_free(self) -> int:
        return len(self._free)

    def num_missing(self, sequence: Sequence, num_tokens: int) -> int:
        """Blocks the sequence needs beyond its own to hold `num_tokens` tokens."""
        return max(0, -(-num_tokens // self.block_size) - len(sequence.blocks))

    def grow(self, sequence: Sequence, num_tokens: int) -> None:
        """Give the sequence room for `num_tokens` tokens; the caller has checked that enough blocks are free."""
        missing = self.num_missing(sequence, num_tokens)
        assert missing <= len(self._free), "grow() without a check of num_free"
        for _ in range(missing):
            sequence.blocks.append(self._free.pop())

    def release(self, sequence: Sequence) -> None:
        self._free.extend(sequence.blocks)
        sequence.blocks.clear()
        assert len(self._free) <= self.num_blocks, "a block was released twice"
