"""Step 6 of a request: one loop of schedule, run, read out; every request that was added ends with exactly one terminal event.

`add` and `cancel` may be called from any thread; `step` belongs to one thread. Sequences change only under the lock, which is free while the model
and the sampler run; a cancel that arrives then takes effect when the step is over, because the model may still read the sequence's blocks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from gpu_backend.config import EngineConfig
from gpu_backend.core import AdapterNotFoundError, EngineOverloadedError, Event, Failed, Finished, Request, SamplingParams, Usage
from gpu_backend.decoding.early_exit.draft_length import DraftLengths
from gpu_backend.decoding.output import ChoiceOutput
from gpu_backend.engine.adapter_store import NoRoomError
from gpu_backend.engine.admission import lay_out
from gpu_backend.engine.live_request import LiveRequest
from gpu_backend.engine.metrics import EngineMetrics, StepMetrics
from gpu_backend.engine.model_runner import ModelRunner
from gpu_backend.engine.readout import Reading, read
from gpu_backend.engine.rows import DueRow
from gpu_backend.engine.scheduler import Plan, QueueFullError, Scheduler
from gpu_backend.engine.sequence import Sequence
from gpu_backend.tokenizer import Tokenizer

logger = logging.getLogger(__name__)
_MAX_FAILED_STEPS = 3


class Engine:
    """Runs one model for many requests at once."""

    def __init__(
        self,
        name: str,
        runner: ModelRunner,
        tokenizer: Tokenizer,
        config: EngineConfig,
        end_token_ids: Iterable[int],
        metrics: EngineMetrics,
        clock: Callable[[], float] = time.monotonic,
        draft_lengths: DraftLengths | None = None,
    ) -> None:
        self.name = name
        self.config = config
        self.num_failed_steps = 0
        self._runner = runner
        self._adapters = runner.adapters
        self._tokenizer = tokenizer
        self._end_token_ids = frozenset(end_token_ids)
        self._metrics = metrics
        self._step_metrics = StepMetrics(metrics, name)
        self._clock = clock
        self._scheduler = Scheduler(config, draft_lengths)
        self._live: dict[str, LiveRequest] = {}
        self._finish_times: deque[float] = deque(maxlen=64)
        self._lock = threading.Lock()
        self._is_computing = False
        self._cancelled: set[str] = set()
        self._count_requests()

    @property
    def has_work(self) -> bool:
        return bool(self._live)

    @property
    def vocab_size(self) -> int:
        return self._runner.model.config.vocab_size

    @property
    def num_layers(self) -> int:
        return self._runner.model.config.num_layers

    @property
    def hidden_size(self) -> int:
        return self._runner.model.config.hidden_size

    @property
    def exit_layer(self) -> int | None:
        """Where drafts come from; None for a model without a drafter."""
        return self._runner.exit_layer

    @property
    def is_failing(self) -> bool:
        """Several steps in a row raised: the model itself is broken, not a request."""
        return self.num_failed_steps >= _MAX_FAILED_STEPS

    @property
    def num_free_blocks(self) -> int:
        return self._scheduler.blocks.num_free

    def add(self, request: Request) -> None:
        """Queue a request, after its adapter has been loaded. Raises EngineOverloadedError, UnfitRequestError, AdapterError or AdapterNotFoundError.

        A duplicate id, or a request that the pool can never hold, is a bug of the caller.
        """
        self.pin_adapter(request.adapter)
        try:
            self._queue(request)
        except BaseException:
            self.unpin_adapter(request.adapter)
            raise

    def pin_adapter(self, adapter_id: str | None) -> None:
        """Load an adapter if need be, beside the running steps, and keep it until `unpin_adapter`. Nothing to do for None. Raises as `add` does."""
        if adapter_id is None:
            return
        if self._adapters is None:
            raise AdapterNotFoundError(adapter_id)
        try:
            self._adapters.pin(adapter_id)
        except NoRoomError:
            self._metrics.requests.labels(self.name, "refused").inc()
            raise EngineOverloadedError(self._retry_after_s()) from None

    def pin_loaded_adapter(self, adapter_id: str) -> bool:
        """As `pin_adapter`, at once, and only when that takes no loading. -> whether it did."""
        return self._adapters is not None and self._adapters.pin_resident(adapter_id)

    def unpin_adapter(self, adapter_id: str | None) -> None:
        if adapter_id is not None and self._adapters is not None:
            self._adapters.unpin(adapter_id)

    def _queue(self, request: Request) -> None:
        self._runner.check_fit(request)
        laid_out = lay_out(request)
        # The scheduler keeps room for a token after the prompt, also where none will be generated.
        num_tokens = len(laid_out.prompt_ids) + max(1, request.task.max_tokens)
        assert request.prompt_ids and num_tokens <= self.config.num_kv_blocks * self.config.kv_block_size, f"{num_tokens} tokens never fit"
        sequences = [Sequence.of(laid_out, choice) for choice in range(request.num_choices)]
        outputs = {sequence: self._new_output(sequence, request.task) for sequence in sequences if isinstance(request.task, SamplingParams)}
        with self._lock:
            assert request.id not in self._live, f"request id {request.id} is already live"
            try:
                self._scheduler.add(sequences)
            except QueueFullError:
                self._metrics.requests.labels(self.name, "refused").inc()
                raise EngineOverloadedError(self._retry_after_s()) from None
            self._live[request.id] = LiveRequest(request, self._clock(), sequences, outputs)
            self._metrics.prompt_tokens.labels(self.name).inc(len(request.prompt_ids))
            self._count_requests()

    def _new_output(self, sequence: Sequence, params: SamplingParams) -> ChoiceOutput:
        state = None if params.grammar is None else params.grammar.start(params.grammar_trigger)
        return ChoiceOutput(params, sequence.choice, self._tokenizer, self._end_token_ids, state)

    def cancel(self, request_id: str) -> bool:
        """Free everything a request holds; False when it had already ended. No event follows."""
        with self._lock:
            if request_id not in self._live or request_id in self._cancelled:
                return False
            if self._is_computing:
                self._cancelled.add(request_id)
            else:
                self._end(request_id, "cancelled")
            return True

    def step(self) -> list[tuple[str, Event]]:
        """Compute one step; -> events in order, each with its request id."""
        started = self._clock()
        with self._lock:
            events = self._expire(started)
            num_preempted = self._scheduler.num_preemptions
            plan = self._scheduler.schedule()
            self._is_computing = bool(plan)
            self._step_metrics.preemptions.inc(self._scheduler.num_preemptions - num_preempted)
        if plan:
            self._step_metrics.batch.observe(len(plan.decodes) + len(plan.prompts))
            events += self._run(plan)
            self._step_metrics.step.observe(self._clock() - started)
        return events

    def _run(self, plan: Plan) -> list[tuple[str, Event]]:
        done, broken = self._forward([plan])
        if broken and len(parts := plan.by_request()) > 1:
            # One request must not fail its neighbours: each once more alone. What is computed twice is written to the same places.
            done, broken = self._forward(parts)
        try:
            chosen = [(part, self._read(rows)) for part, rows in done]
        except Exception:
            logger.exception("sampling failed", extra={"model": self.name})
            chosen, broken = [], [plan]
        self.num_failed_steps = 0 if chosen else self.num_failed_steps + 1
        events: list[tuple[str, Event]] = []
        with self._lock:
            self._apply_cancels()
            try:
                for part, readings in chosen:
                    self._advance(part, readings, events)
            except Exception:
                # Whatever a step raises, its requests must still get their one terminal event and the loop must live on.
                logger.exception("engine step failed", extra={"model": self.name})
                broken = [plan]
            ids = dict.fromkeys(sequence.request.id for part in broken for sequence, _ in part.entries())
            events += [self._fail(i, "internal_error", "The model failed while it computed this answer.") for i in ids if i in self._live]
        return events

    def _forward(self, plans: list[Plan]) -> tuple[list[tuple[Plan, list[DueRow]]], list[Plan]]:
        """-> the plans that the model computed, each with the rows that are due, and the plans over which it raised."""
        done: list[tuple[Plan, list[DueRow]]] = []
        broken: list[Plan] = []
        for plan in plans:
            try:
                done.append((plan, self._runner.run(plan)))
            except Exception:
                logger.exception("engine step failed", extra={"model": self.name, "requests": sorted({s.request.id for s, _ in plan.entries()})})
                broken.append(plan)
        return done, broken

    def _read(self, rows: list[DueRow]) -> list[Reading]:
        """What the rows bring, without the lock: nobody waits for the sampler, and no request leaves `_live` while a step computes."""
        outputs = {row.sequence: output for row in rows if (output := self._live[row.sequence.request.id].outputs.get(row.sequence)) is not None}
        return read(rows, outputs)

    def _apply_cancels(self) -> None:
        self._is_computing = False
        for request_id in self._cancelled:
            self._end(request_id, "cancelled")
        self._cancelled.clear()

    def _advance(self, plan: Plan, readings: list[Reading], events: list[tuple[str, Event]]) -> None:
        """Record what was computed and hand out what each finished row brings. Sequences cancelled meanwhile are skipped."""
        left_early = {reading.sequence for reading in readings if reading.left_early}
        if left_early:
            self._metrics.early_labels.labels(self.name).inc(len(left_early))
        self._scheduler.advance(plan, left_early)
        for reading in readings:
            sequence, request_id = reading.sequence, reading.sequence.request.id
            if request_id not in self._live:
                continue
            for token_id in reading.token_ids:
                sequence.token_ids.append(token_id)
                self._note_token(sequence)
            self._note_drafts(sequence, reading)
            events += [(request_id, event) for event in reading.events]
            if reading.error is not None:
                subject = _subject_of(sequence.request)
                events.append(self._fail(request_id, "unsupported_value", f"{subject}: {reading.error}.", subject))
            elif reading.is_last:
                events += self._close_choice(sequence)

    def _note_token(self, sequence: Sequence) -> None:
        live, now = self._live[sequence.request.id], self._clock()
        is_first = not live.has_first_token
        live.note_token(sequence.choice, now)
        self._step_metrics.generated_tokens.inc()
        if is_first:
            self._metrics.first_token.labels(self.name).observe(now - live.added_s)
            self._count_requests()

    def _note_drafts(self, sequence: Sequence, reading: Reading) -> None:
        if num_guesses := reading.num_guesses:
            live, num_accepted = self._live[sequence.request.id], max(0, len(reading.token_ids) - 1)
            self._scheduler.accept(sequence, num_guesses, num_accepted)
            live.num_accepted_drafts += num_accepted
            live.min_confidence = min(live.min_confidence, reading.min_confidence)
            self._step_metrics.drafted_tokens.inc(num_guesses)
            self._step_metrics.accepted_drafts.inc(num_accepted)

    def _close_choice(self, sequence: Sequence) -> list[tuple[str, Event]]:
        self._scheduler.remove(sequence)
        live = self._live[sequence.request.id]
        live.close(sequence.choice, self._clock())
        if live.open_choices:
            return []
        self._metrics.cached_tokens.labels(self.name).inc(live.num_cached)
        if live.seconds_per_token is not None:
            self._metrics.token_time.labels(self.name).observe(live.seconds_per_token)
        usage = Usage(len(live.request.prompt_ids), live.num_completion_tokens, live.num_cached)
        self._end(sequence.request.id, "finished")
        return [(sequence.request.id, Finished(usage, live.num_accepted_drafts, live.min_confidence))]

    def _expire(self, now: float) -> list[tuple[str, Event]]:
        late = [i for i, live in self._live.items() if live.request.deadline_s is not None and now >= live.request.deadline_s]
        return [self._fail(i, "deadline_exceeded", "The request did not finish before its deadline.") for i in late]

    def _fail(self, request_id: str, code: str, message: str, param: str | None = None) -> tuple[str, Event]:
        self._end(request_id, code)
        return request_id, Failed(code, message, param)

    def _end(self, request_id: str, outcome: str) -> None:
        """The one place where a request stops being live."""
        live = self._live.pop(request_id)
        self._runner.forget(request_id)
        for sequence in live.open_sequences:
            self._scheduler.remove(sequence)
        self._finish_times.append(self._clock())
        self._metrics.requests.labels(self.name, outcome).inc()
        self.unpin_adapter(live.request.adapter)
        self._count_requests()

    def _count_requests(self) -> None:
        num_running = sum(live.has_first_token for live in self._live.values())
        self._metrics.running.labels(self.name).set(num_running)
        self._metrics.waiting.labels(self.name).set(len(self._live) - num_running)
        self._metrics.free_blocks.labels(self.name).set(self.num_free_blocks)

    def _retry_after_s(self) -> int:
        """How long the present queue would take at the rate of the last 64 endings, between 1 and 60 seconds."""
        if len(self._finish_times) < 2:
            return 5
        span = max(self._clock() - self._finish_times[0], 1e-3)
        return min(60, max(1, round(len(self._live) * span / len(self._finish_times))))


def _subject_of(request: Request) -> str:
    """What a caller wrote to get the grammar that its answer could not follow."""
    task = request.task
    return "tools" if isinstance(task, SamplingParams) and task.tool_call_tokens is not None else "response_format"
