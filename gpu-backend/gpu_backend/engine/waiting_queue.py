"""Who comes next: tenants take turns by tokens (deficit round robin, Shreedhar and Varghese 1995), so that one tenant's flood starves nobody.

A tenant's turn brings a quantum of tokens, larger for a higher priority; it may start requests as long as its saved tokens cover their prompts. Every
tenant gets its turn in every round, so a low priority means a smaller share, never none. No torch here.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator

from gpu_backend.engine.sequence import Sequence

_QUANTUM_TOKENS = 256


class WaitingQueue:
    """First come, first served within a tenant and priority. Sequences that had to give way come back in front of everybody."""

    def __init__(self) -> None:
        self._returned: deque[Sequence] = deque()
        self._lanes: OrderedDict[tuple[str, int], deque[Sequence]] = OrderedDict()
        self._saved_tokens: dict[tuple[str, int], int] = {}
        self.num_tokens = 0

    def __len__(self) -> int:
        return len(self._returned) + sum(map(len, self._lanes.values()))

    def __iter__(self) -> Iterator[Sequence]:
        yield from self._returned
        for lane in self._lanes.values():
            yield from lane

    def num_of(self, tenant: str) -> int:
        """How many sequences of this tenant wait."""
        return sum(len(lane) for (owner, _), lane in self._lanes.items() if owner == tenant) + sum(item.request.tenant == tenant for item in self._returned)

    def append(self, sequence: Sequence) -> None:
        lane = _lane_of(sequence)
        if lane not in self._lanes:
            self._lanes[lane] = deque()
            self._saved_tokens[lane] = 0
        self._lanes[lane].append(sequence)
        self.num_tokens += len(sequence.token_ids)

    def put_back(self, sequence: Sequence) -> None:
        """For a sequence that ran and was preempted: it has waited its turn already."""
        self._returned.appendleft(sequence)
        self.num_tokens += len(sequence.token_ids)

    def peek(self) -> Sequence | None:
        """The next one. Moves turns on until a tenant can pay, but takes nothing out; asking twice gives the same answer."""
        if self._returned:
            return self._returned[0]
        while self._lanes:
            lane, sequences = next(iter(self._lanes.items()))
            if self._saved_tokens[lane] >= len(sequences[0].token_ids):
                return sequences[0]
            self._lanes.move_to_end(lane)
            following = next(iter(self._lanes))
            self._saved_tokens[following] += _quantum(following[1])
        return None

    def pop(self) -> Sequence:
        """Take out what `peek` shows."""
        sequence = self.peek()
        assert sequence is not None
        if self._returned:
            self._returned.popleft()
            self.num_tokens -= len(sequence.token_ids)
        else:
            self._saved_tokens[_lane_of(sequence)] -= len(sequence.token_ids)
            self.remove(sequence)
        return sequence

    def remove(self, sequence: Sequence) -> None:
        """Take out a sequence wherever it waits. Raises ValueError when it does not."""
        if sequence in self._returned:
            self._returned.remove(sequence)
        else:
            lane = _lane_of(sequence)
            if lane not in self._lanes:
                raise ValueError("the sequence does not wait")
            self._lanes[lane].remove(sequence)
            if not self._lanes[lane]:
                # Who leaves the queue loses what they saved: credit is for waiting, not for staying away.
                del self._lanes[lane], self._saved_tokens[lane]
        self.num_tokens -= len(sequence.token_ids)


def _lane_of(sequence: Sequence) -> tuple[str, int]:
    return sequence.request.tenant, sequence.request.priority


def _quantum(priority: int) -> int:
    """Each step of priority doubles the share."""
    return max(1, int(_QUANTUM_TOKENS * 2.0**priority))
