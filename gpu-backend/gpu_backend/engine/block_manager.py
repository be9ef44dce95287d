"""Hands out the blocks of the paged cache, shares those that hold the same prefix, and evicts the least recently used. No torch here.

A full block is known by a hash over its tokens, all tokens before it, and the request's salt; a salt stands for project, end user and adapter, so
nobody can find out by timing what another has asked. Whoever holds a block counts as one reference; a block without references keeps its contents until
its room is needed.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict

from gpu_backend.engine.sequence import Sequence


class BlockManager:
    """Invariant: every block is free, evictable (known, unreferenced) or referenced, and exactly one of these."""

    def __init__(self, num_blocks: int, block_size: int, *, reuses_prefixes: bool = True) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._reuses_prefixes = reuses_prefixes
        self._free = list(range(num_blocks))
        self._evictable: OrderedDict[int, None] = OrderedDict()
        self._num_references = [0] * num_blocks
        self._block_of_hash: dict[bytes, int] = {}
        self._hash_of_block: dict[int, bytes] = {}

    @property
    def num_free(self) -> int:
        """Blocks that can be handed out now."""
        return len(self._free) + len(self._evictable)

    def num_missing(self, sequence: Sequence, num_tokens: int) -> int:
        """Blocks the sequence needs beyond its own to hold `num_tokens` tokens."""
        return max(0, -(-num_tokens // self.block_size) - len(sequence.blocks))

    def find_prefix(self, sequence: Sequence) -> list[int]:
        """Known blocks that hold the beginning of the sequence; never all of it, since its last token must be computed to get logits."""
        found: list[int] = []
        if not self._reuses_prefixes:
            return found
        self._hash_blocks(sequence, (len(sequence.token_ids) - 1) // self.block_size)
        for digest in sequence.block_hashes[: (len(sequence.token_ids) - 1) // self.block_size]:
            block = self._block_of_hash.get(digest)
            if block is None:
                break
            found.append(block)
        return found

    def num_evictable_among(self, blocks: list[int]) -> int:
        """How many of these count as free now and would not once they are shared."""
        return sum(block in self._evictable for block in blocks)

    def share(self, sequence: Sequence, blocks: list[int]) -> None:
        """Begin a sequence with blocks that `find_prefix` gave."""
        assert not sequence.blocks
        for block in blocks:
            self._evictable.pop(block, None)
            self._num_references[block] += 1
        sequence.blocks.extend(blocks)
        sequence.num_computed = len(blocks) * self.block_size

    def grow(self, sequence: Sequence, num_tokens: int) -> None:
        """Give the sequence room for `num_tokens` tokens; the caller has checked that enough blocks are free."""
        for _ in range(self.num_missing(sequence, num_tokens)):
            block = self._free.pop() if self._free else self._evict()
            self._num_references[block] = 1
            sequence.blocks.append(block)

    def remember(self, sequence: Sequence, num_tokens: int) -> None:
        """Make the full blocks among the first `num_tokens`, which all layers have computed, known to later requests."""
        if not self._reuses_prefixes:
            return
        num_full = num_tokens // self.block_size
        first_new = sequence.num_remembered
        if num_full <= first_new:
            return
        self._hash_blocks(sequence, num_full)
        for index in range(first_new, num_full):
            digest, block = sequence.block_hashes[index], sequence.blocks[index]
            if digest not in self._block_of_hash and block not in self._hash_of_block:
                self._block_of_hash[digest] = block
                self._hash_of_block[block] = digest
        sequence.num_remembered = num_full

    def release(self, sequence: Sequence) -> None:
        """Give up all blocks; the end of the sequence will be evicted before its beginning."""
        for block in reversed(sequence.blocks):
            self._num_references[block] -= 1
            assert self._num_references[block] >= 0, "a block was released twice"
            if self._num_references[block] == 0:
                if block in self._hash_of_block:
                    self._evictable[block] = None
                else:
                    self._free.append(block)
        sequence.blocks.clear()
        sequence.num_remembered = 0

    def _evict(self) -> int:
        block, _ = self._evictable.popitem(last=False)
        del self._block_of_hash[self._hash_of_block.pop(block)]
        return block

    def _hash_blocks(self, sequence: Sequence, num_blocks: int) -> None:
        """Extend the sequence's chain of hashes; tokens never change once they are there, so neither do hashes."""
        for index in range(len(sequence.block_hashes), num_blocks):
            before = sequence.block_hashes[-1] if index else sequence.request.prefix_salt
            tokens = array("I", sequence.token_ids[index * self.block_size : (index + 1) * self.block_size])
            sequence.block_hashes.append(hashlib.blake2b(before + b"\0" + tokens.tobytes(), digest_size=16).digest())
