"""How many tokens to draft before they are verified: as many as pay, by measured costs and by how often this answer's drafts were right. No torch here."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

# What is done around the passes of a round is not among the costs, and takes a tenth of it.
_LEAST_GAIN = 1.1
# What is known before an answer's first draft weighs as much as so many drafts.
_PRIOR_WEIGHT = 4.0
# A draft counts for less with every round, so that the estimate follows the text; and with every step that drafts nothing, so that it is tried again.
_MEMORY, _FADING = 0.9, 0.95


@dataclass(frozen=True, slots=True)
class PassCost:
    """Time of a pass over some rows, in any unit that all costs share. `points` are (rows, time) of two or more measured passes, by rows; straight lines lie
    between them and go on beyond."""

    points: tuple[tuple[int, float], ...]

    @classmethod
    def line(cls, fixed: float, per_row: float) -> PassCost:
        """The weights are read once, every row is computed."""
        return cls(((0, fixed), (1, fixed + per_row)))

    def of(self, num_rows: int) -> float:
        index = min(max(1, bisect_left(self.points, num_rows, key=_rows_of)), len(self.points) - 1)
        (few, before), (many, after) = self.points[index - 1 : index + 1]
        return before + (after - before) * (num_rows - few) / (many - few)


@dataclass(frozen=True, slots=True)
class RoundCosts:
    """`lower` runs the layers below the exit, `draft` guesses there, `upper` runs the layers above and the head."""

    lower: PassCost
    draft: PassCost
    upper: PassCost

    def round(self, num_drafting: int, num_drafts: int, num_others: int = 0) -> float:
        """Drafting so many tokens for each drafting sequence one after the other, and verifying all in one pass, with a token of each of the others; without
        drafts a plain step."""
        num_rows = num_drafting + num_others
        drafting = num_drafts * (self.draft.of(num_drafting) + self.lower.of(num_drafting))
        return self.lower.of(num_rows) + drafting + self.upper.of(num_rows + num_drafting * num_drafts)


@dataclass(slots=True)
class Acceptance:
    """How often the drafts of one answer were right, as far as they were verified."""

    prior: float
    _right: float = 0.0
    _tried: float = 0.0

    @property
    def rate(self) -> float:
        return (self._right + _PRIOR_WEIGHT * self.prior) / (self._tried + _PRIOR_WEIGHT)

    def note(self, num_guesses: int, num_accepted: int) -> None:
        """What comes after the first wrong draft was never tried; one that was dropped helped as little as a wrong one."""
        self._right = _MEMORY * self._right + num_accepted
        self._tried = _MEMORY * self._tried + min(num_guesses, num_accepted + 1)

    def fade(self) -> None:
        """A step went by without drafts: what is known of this answer says a little less about what comes now."""
        self._right *= _FADING
        self._tried *= _FADING


@dataclass(frozen=True, slots=True)
class DraftRule:
    """At most so many drafts for each sequence. A draft is kept where the chance that it and all before it are right is at least `least_kept`; another guess is
    made where this chance is at least `least_to_go_on`."""

    most: int
    least_kept: float
    least_to_go_on: float


NO_DRAFTS = DraftRule(0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class DraftLengths:
    """`prior` is the acceptance to expect of a new answer; no round has more than `most` drafts."""

    costs: RoundCosts
    prior: float
    most: int = 6
    _rules: dict[tuple[int, float, int], DraftRule] = field(default_factory=dict, repr=False, compare=False)

    def best(self, num: int, rate: float, num_others: int = 0) -> int:
        """Drafts for each of `num` sequences whose acceptance is `rate` in the mean: what brings all sequences of the step together the most tokens in a unit
        of time, 0 where no drafts pay clearly. The others have none, and wait for the round."""
        best = max(range(self.most + 1), key=lambda count: self._speed(num, rate, count, num_others))
        return best if self._speed(num, rate, best, num_others) >= _LEAST_GAIN * self._speed(num, rate, 0, num_others) else 0

    def choose(self, rates: Sequence[float], num_others: int = 0) -> DraftRule:
        """The rule for one step of sequences with these acceptance rates, beside others that draft nothing."""
        if not rates:
            return NO_DRAFTS
        key = (len(rates), round(sum(rates) / len(rates), 2), num_others)
        if key not in self._rules:
            self._rules[key] = self._rule(*key)
        return self._rules[key]

    def _rule(self, num: int, rate: float, num_others: int) -> DraftRule:
        """A kept draft costs its part of the passes below and above the exit, another guess the guess as well; either must bring tokens at the speed of the
        best number of drafts, a guess by the mean rate."""
        best = self.best(num, rate, num_others)
        if not best:
            return NO_DRAFTS
        costs, num_rows = self.costs, num + num_others
        kept = (costs.lower.of(num) + costs.upper.of(num_rows + num) - costs.upper.of(num_rows)) / num
        guessed = costs.draft.of(num) / num
        speed = self._speed(num, rate, best, num_others)
        return DraftRule(self.most, min(1.0, kept * speed), min(1.0, (kept + guessed) * speed / rate))

    def _speed(self, num: int, rate: float, count: int, num_others: int) -> float:
        return (num * expected_tokens(rate, count) + num_others) / self.costs.round(num, count, num_others)


def _rows_of(point: tuple[int, float]) -> int:
    return point[0]


def expected_speed_up(costs: RoundCosts, rate: float, num_drafts: int) -> float:
    """Of one sequence alone, against a step without drafts."""
    return costs.round(1, 0) * expected_tokens(rate, num_drafts) / costs.round(1, num_drafts)


def expected_tokens(rate: float, num_drafts: int) -> float:
    """Of a round, when each draft is right with this probability while all before it were: 1 + a + a^2 + ... + a^K."""
    return sum(rate**power for power in range(num_drafts + 1))
