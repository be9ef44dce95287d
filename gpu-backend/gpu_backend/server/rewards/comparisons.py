"""Pairs of answers to one question, judged by a model in one order or both."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from gpu_backend.chat_template import TemplateRefusedError
from gpu_backend.core import LabelScoresReady
from gpu_backend.models.reward.judge import Fitted, Judge, NoRoomToJudgeError, TooLongToJudgeError, common_prefix
from gpu_backend.ranking.preference import Average, Preference, combine
from gpu_backend.server.errors import BackendError
from gpu_backend.server.label_scores import LabelReader, Prompt
from gpu_backend.server.rewards.schemas import Criterion, RewardRequest

Pair = tuple[int, int]
# Answer in slot A, answer in slot B, criterion.
Asked = tuple[int, int, int]
# Stands for the whole where the caller named none; no caller's criterion is without a name.
NO_CRITERION = (Criterion.model_construct(name="", description="", weight=1.0),)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the model said of a pair (i, j): for each criterion the scores of the labels with i in slot A and with j there, where it was asked so.

    `is_same` where the judge reads the same text whichever comes first: then nothing it says can prefer one of them.
    """

    first: tuple[LabelScoresReady, ...]
    second: tuple[LabelScoresReady, ...]
    is_same: bool

    def deltas(self, criterion: int) -> list[float]:
        """Logit differences that speak for i."""
        return [turn * (scores[criterion].logits[0] - scores[criterion].logits[1]) for turn, scores in ((1, self.first), (-1, self.second)) if scores]


@dataclass(frozen=True, slots=True)
class Scale:
    """How logit differences become preferences: the model's temperature, the caller's way to average, and the weight of each criterion."""

    temperature: float
    average: Average
    weights: tuple[float, ...]

    def whole(self, judgements: Sequence[Judgement]) -> Preference:
        """Over all criteria by weight, and over all these judgements, which speak for the same answer."""
        return self._over(judgements, range(len(self.weights)))

    def of_criterion(self, judgements: Sequence[Judgement], criterion: int) -> Preference:
        return self._over(judgements, [criterion])

    def of_order(self, scores: Sequence[LabelScoresReady], turn: int) -> Preference:
        """One order alone, over all criteria. `turn` is -1 where the answer it speaks for stood in slot B."""
        deltas = [turn * (each.logits[0] - each.logits[1]) for each in scores]
        return combine(deltas, temperature=self.temperature, average=self.average, weights=self.weights)

    def _over(self, judgements: Sequence[Judgement], criteria: Iterable[int]) -> Preference:
        terms = [
            (0.0 if judgement.is_same else delta, self.weights[criterion])
            for judgement in judgements
            for criterion in criteria
            for delta in judgement.deltas(criterion)
        ]
        deltas, weights = zip(*terms, strict=True)
        return combine(deltas, temperature=self.temperature, average=self.average, weights=weights)


def flipped(judgement: Judgement) -> Judgement:
    """The same, told of (j, i)."""
    return Judgement(judgement.second, judgement.first, judgement.is_same)


def _fit(judge: Judge, body: RewardRequest, answers: Mapping[str, str]) -> Fitted:
    """As much of the texts as the caller wants read, and of that as much as the model can read."""
    question, most = [turn.model_dump() for turn in body.input], body.most
    if (unread := judge.unread_turn(question)) is not None:
        place = f"number {unread + 1} of {len(question)}"
        message = f"input has a message that the judge template of {body.model} does not read, {place}: send one user message that says all of it."
        raise BackendError("unsupported_value", message, param="input")
    turns = [judge.beginning(turn["content"], most.message) for turn in question]
    begun = [judge.beginning(text, most.response if name.startswith("responses[") else None) for name, text in answers.items()]
    fitted = judge.fit(
        [{**turn, "content": text} for turn, (text, _) in zip(question, turns, strict=True)],
        [text for text, _ in begun],
        [criterion.description for criterion in body.criteria] or [""],
        may_cut=body.truncation == "auto",
        most=most.prompt,
    )
    return replace(
        fitted,
        question_is_cut=fitted.question_is_cut or any(is_cut for _, is_cut in turns),
        answer_is_cut=tuple(was_cut or is_cut for (_, was_cut), is_cut in zip(begun, fitted.answer_is_cut, strict=True)),
    )


class Comparisons:
    """The answers of one request, cut to what the judge reads, and the way to ask about them."""

    def __init__(self, judge: Judge, reader: LabelReader, body: RewardRequest, fitted: Fitted) -> None:
        self.fitted = fitted
        self.criteria = tuple(body.criteria) or NO_CRITERION
        self.scale = Scale(judge.spec.temperature, body.average, tuple(criterion.weight for criterion in self.criteria))
        self.num_comparisons = 0
        self._judge = judge
        self._reader = reader
        # By text, so that what is asked in which order does not depend on the order of the answers in the request.
        self._rank = {index: rank for rank, index in enumerate(sorted(range(len(fitted.answers)), key=lambda index: fitted.answers[index]))}
        self._own_tokens = [0] * len(fitted.answers)
        # Answers whose beginning has gone through all layers.
        self._whole: set[int] = set()

    @classmethod
    async def prepare(cls, judge: Judge, reader: LabelReader, body: RewardRequest, answers: Mapping[str, str]) -> Comparisons:
        """`answers` by the name of the parameter that each came as. Raises context_length_exceeded with the one at fault where nothing may be cut,
        and unsupported_value for criteria and turns that the template would ignore."""
        if body.criteria and not judge.takes_criterion:
            raise BackendError("unsupported_value", f"The judge template of {body.model} knows no criteria.", param="criteria")
        names = list(answers)
        try:
            fitted = await asyncio.to_thread(_fit, judge, body, answers)
        except NoRoomToJudgeError as error:
            raise BackendError("invalid_value", f"max_prompt_tokens is too small: {error}.", param="max_prompt_tokens") from error
        except TooLongToJudgeError as error:
            param = names[error.item] if isinstance(error.item, int) else "criteria" if error.item == "criteria" else "input"
            message = f"{param} is too long: {error}. Shorten it, or set truncation to auto."
            raise BackendError("context_length_exceeded", message, param=param) from error
        except TemplateRefusedError as error:
            raise BackendError("unsupported_value", str(error), param="input") from error
        return cls(judge, reader, body, fitted)

    def input_tokens_of(self, index: int) -> int:
        """Of the prompts in which this answer stood in slot A."""
        return self._own_tokens[index]

    async def judged(self, pairs: Sequence[Pair], orders: tuple[bool, bool] = (True, True)) -> dict[Pair, Judgement]:
        """Every pair (i, j) with i in slot A, with j there, or both. The same text is read once, however many ask for it."""
        self.num_comparisons += len(pairs)
        criteria = range(len(self.criteria))
        every = [(a, b, c) for i, j in pairs for a, b in ((i, j), (j, i)) for c in criteria]
        wanted = [(a, b, c) for i, j in pairs for (a, b), is_wanted in zip(((i, j), (j, i)), orders, strict=True) if is_wanted for c in criteria]
        ids, prompts = await asyncio.to_thread(self._encode, every, wanted)
        for a, b, criterion in wanted:
            self._own_tokens[a] += len(ids[a, b, criterion])
        answers = await self._reader.read(prompts)
        scores = {prompt.ids: answer for prompt, answer in zip(prompts, answers, strict=True)}

        def scores_of(a: int, b: int) -> tuple[LabelScoresReady, ...]:
            return tuple(scores[ids[a, b, criterion]] for criterion in criteria)

        return {
            (i, j): Judgement(scores_of(i, j) if orders[0] else (), scores_of(j, i) if orders[1] else (), is_same=ids[i, j, 0] == ids[j, i, 0])
            for i, j in pairs
        }

    def _encode(self, every: Sequence[Asked], wanted: Sequence[Asked]) -> tuple[dict[Asked, tuple[int, ...]], list[Prompt]]:
        """The ids of all of them, and what is to be read of those that are wanted."""
        question, answers = self.fitted.question, self.fitted.answers
        try:
            ids = {(a, b, c): tuple(self._judge.encode(question, answers[a], answers[b], self.criteria[c].description)) for a, b, c in every}
            return ids, self._prompts(wanted, ids)
        except TemplateRefusedError as error:
            raise BackendError("unsupported_value", str(error), param="input") from error

    def _prompts(self, wanted: Sequence[Asked], ids: Mapping[Asked, tuple[int, ...]]) -> list[Prompt]:
        """Each text once, in the order in which they are to be read."""
        asked: dict[tuple[int, ...], Asked] = {}
        for one in self._by_prefix(wanted):
            asked.setdefault(ids[one], one)
        return [Prompt(prompt, self._judge.label_ids, self._num_shared(one, ids)) for prompt, one in asked.items()]

    def _num_shared(self, one: Asked, ids: Mapping[Asked, tuple[int, ...]]) -> int:
        """How much of a prompt that may leave early is to go through all layers for those that come after it: what its pair with the next criterion begins
        with; else, once for each answer in slot A, all that comes before the other answer, or, where there are but two, once the question."""
        if self._reader.gate is None:
            return 0
        a, b, criterion = one
        if criterion + 1 < len(self.criteria):
            return common_prefix(ids[one], ids[a, b, criterion + 1])
        is_pair = len(self.fitted.answers) == 2
        if (is_pair and self._whole) or a in self._whole:
            return 0
        self._whole.add(a)
        return common_prefix(ids[one], ids[b, a, criterion] if is_pair else self._judge.encode(self.fitted.question, self.fitted.answers[a], ""))

    def _by_prefix(self, wanted: Sequence[Asked]) -> list[Asked]:
        """In an order in which the engine finds beginnings computed: first one prompt for each answer in slot A, then one for each pair, then the rest,
        which have all but their ends in common with what came before; each of these by slot A, so that what is shared stays in the cache."""
        ordered = sorted(wanted, key=lambda one: (self._rank[one[0]], self._rank[one[1]], one[2]))
        seen: set[tuple[int, ...]] = set()
        levels: list[list[Asked]] = [[], [], []]
        for one in ordered:
            level = 0 if one[:1] not in seen else 1 if one[:2] not in seen else 2
            seen |= {one[:1], one[:2]}
            levels[level].append(one)
        return [one for level in levels for one in level]
