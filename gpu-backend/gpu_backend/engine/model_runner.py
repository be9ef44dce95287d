"""Step 8 of a request: turns the scheduler's lists into tensors, runs the model, and returns what it says where a sequence is due."""

from __future__ import annotations

import torch
from torch import Tensor

from gpu_backend.config import EngineConfig
from gpu_backend.core import HiddenStates, LabelScores, Request
from gpu_backend.decoding.early_exit.drafter import Drafter
from gpu_backend.engine.adapter_store import AdapterStore
from gpu_backend.engine.admission import check_fit
from gpu_backend.engine.batches import Batches
from gpu_backend.engine.decode_graphs import CudaRecorder, DecodeGraphs, Recorder
from gpu_backend.engine.draft_round import DraftRound
from gpu_backend.engine.hidden_states import HiddenStatesReader
from gpu_backend.engine.label_exits import exit_layers, read_gates, rows_that_stay
from gpu_backend.engine.rows import DueRow, Stretch
from gpu_backend.engine.scheduler import Plan
from gpu_backend.engine.sequence import Sequence
from gpu_backend.layers.batch import ForwardBatch
from gpu_backend.layers.conditioning import EncoderSource, KVPrefix
from gpu_backend.layers.lora import LoraAdapter
from gpu_backend.models.interface import Decoder, EncoderDecoder


class ModelRunner:
    """Owns the model, the pool of keys and values, the adapters, and what a request needs beside them from its first step to its end.

    `recorder` makes the graphs of steps that only decode; on a CUDA device there is one without being given.
    """

    def __init__(
        self,
        model: Decoder,
        config: EngineConfig,
        adapters: AdapterStore[LoraAdapter] | None = None,
        drafter: Drafter | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.model = model
        self.adapters = adapters
        # What drafts cost was measured without graphs, so a model that drafts goes without.
        recorder = None if drafter is not None or not config.decode_graphs else recorder or _recorder_of(model.device)
        self._cache = model.new_cache(num_blocks=config.num_kv_blocks + (recorder is not None), block_size=config.kv_block_size)
        # Runs all layers of all rows where nobody asks for more: the model, or what stands for it.
        self._whole_pass = model if recorder is None else DecodeGraphs(model, config.num_kv_blocks, config.max_num_sequences, recorder)
        self._hidden_states = HiddenStatesReader()
        self._encoded: dict[str, Tensor] = {}
        self._batches = Batches(model.device, config.kv_block_size, self._encoded, adapters)
        self.exit_layer = None if drafter is None else drafter.exit_layer
        self._draft_round = None if drafter is None else DraftRound(model, self._cache, self._batches, drafter)

    def check_fit(self, request: Request) -> None:
        """Raises UnfitRequestError."""
        check_fit(request, self.model, self._cache)

    def forget(self, request_id: str) -> None:
        """Free what was kept for a request, which has ended."""
        self._hidden_states.forget(request_id)
        self._encoded.pop(request_id, None)
        if self._draft_round is not None:
            self._draft_round.forget(request_id)

    @torch.inference_mode()
    def run(self, plan: Plan) -> list[DueRow]:
        """Compute the planned tokens. -> one row for each sequence whose tokens are now all computed."""
        if plan.drafts:
            assert self._draft_round is not None and not plan.prompts
            return self._draft_round.run(plan.decodes, plan.drafts, plan.draft_rule)
        self._write_prefixes(plan)
        self._encode_sources(plan)
        stretches = _stretches(plan)
        if not stretches:
            return []
        hidden_NH, stretches, left = self._run_layers(stretches, plan.decodes)
        states = self._hidden_states.take(stretches)
        due = [stretch for stretch in stretches if stretch.is_last]
        if self._draft_round is not None:
            for stretch in due:
                self._draft_round.note(stretch, hidden_NH)
        logits = self._logits(hidden_NH, [stretch for stretch in due if not isinstance(stretch.sequence.request.task, HiddenStates)])
        rows = [DueRow(stretch.sequence, logits.get(stretch.sequence), states.get(stretch.sequence)) for stretch in due]
        return rows + [DueRow(sequence, label_difference=difference) for sequence, difference in left.items()]

    def _run_layers(self, stretches: list[Stretch], decodes: list[Sequence]) -> tuple[Tensor, list[Stretch], dict[Sequence, float]]:
        """-> the residual stream (N, H) after the last layer, the stretches that its rows belong to, and what was read where sequences left early."""
        left: dict[Sequence, float] = {}
        batch, start = self._batch_of(stretches, decodes), 0
        layers = exit_layers(stretches)
        if not layers and not any(isinstance(stretch.sequence.request.task, HiddenStates) for stretch in stretches):
            return self._whole_pass(batch, self._cache), stretches, left
        x_NH = self.model.embed(batch.token_ids_N)
        for layer in layers:
            x_NH, start = self._hidden_states.run_layers(self.model, x_NH, start, layer, self._cache, batch, stretches), layer
            found = read_gates(stretches, layer, x_NH)
            if found:
                left |= found
                stretches, rows = rows_that_stay(stretches, found)
                x_NH = x_NH[rows]
                if not stretches:
                    return x_NH, stretches, left
                batch = self._batch_of(stretches, [sequence for sequence in decodes if sequence not in left])
        x_NH = self._hidden_states.run_layers(self.model, x_NH, start, self.model.config.num_layers, self._cache, batch, stretches)
        return x_NH, stretches, left

    def _batch_of(self, stretches: list[Stretch], decodes: list[Sequence]) -> ForwardBatch:
        """Sequences that decode come first."""
        token_ids = [token for stretch in stretches for token in stretch.sequence.token_ids[stretch.positions.start : stretch.positions.stop]]
        return self._batches.of(stretches, len(decodes), token_ids)

    def _logits(self, hidden_NH: Tensor, stretches: list[Stretch]) -> dict[Sequence, Tensor]:
        """Next-token logits (V,) in float32 after the last row of each stretch."""
        if not stretches:
            return {}
        x_KH = hidden_NH[self._batches.tensor([stretch.stop - 1 for stretch in stretches])]
        logits_KV = self.model.compute_logits(x_KH)
        if self.model.rounds_logits:
            self._sharpen_labels(logits_KV, x_KH, stretches)
        return {stretch.sequence: logits_V for stretch, logits_V in zip(stretches, logits_KV.unbind(), strict=True)}

    def _sharpen_labels(self, logits_KV: Tensor, x_KH: Tensor, stretches: list[Stretch]) -> None:
        """The labels of tasks that read some, in float32: a judge's verdict is the small difference of two of them."""
        rows_of: dict[tuple[int, ...], list[int]] = {}
        for row, stretch in enumerate(stretches):
            task = stretch.sequence.request.task
            if isinstance(task, LabelScores):
                rows_of.setdefault(task.label_ids, []).append(row)
        for label_ids, rows in rows_of.items():
            labels_S, rows_K = self._batches.tensor(list(label_ids)), self._batches.tensor(rows)
            logits_KV[rows_K[:, None], labels_S] = self.model.compute_few_logits(x_KH[rows_K], labels_S)

    def _write_prefixes(self, plan: Plan) -> None:
        """Where the plan asks for positions of a key/value prefix, they are copied into the pool instead of computed."""
        for sequence, length in plan.entries():
            prefix, first = sequence.request.conditioning, sequence.num_computed
            if isinstance(prefix, KVPrefix) and first < prefix.num_positions:
                given = range(first, min(first + length, prefix.num_positions))
                slots_N = self._batches.tensor(self._batches.slots(sequence.blocks, given))
                for layer, pool in enumerate(self._cache.layers):
                    keys_NGD, values_NGD = (x[layer, given.start : given.stop].to(pool) for x in (prefix.keys_LPGD, prefix.values_LPGD))
                    self._cache.write(layer, slots_N, keys_NGD, values_NGD)

    def _encode_sources(self, plan: Plan) -> None:
        """Encode what runs for the first time, once for all choices of a request. The states stay through preemptions, until `forget`."""
        conditionings = {sequence.request.id: sequence.request.conditioning for sequence, _ in plan.entries()}
        new = {i: source for i, source in conditionings.items() if isinstance(source, EncoderSource) and i not in self._encoded}
        if new:
            assert isinstance(self.model, EncoderDecoder), "check_fit let a source through"
            self._encoded.update(zip(new, self.model.encode(list(new.values())), strict=True))


def _recorder_of(device: torch.device) -> Recorder | None:
    return CudaRecorder(device) if device.type == "cuda" else None


def _stretches(plan: Plan) -> list[Stretch]:
    """The planned positions in the order of the flat list, decodes first, without those that a request brought itself."""
    stretches: list[Stretch] = []
    start = 0
    for sequence, length in plan.entries():
        stop = sequence.num_computed + length
        positions = range(max(sequence.num_computed, sequence.num_given), stop)
        if positions:
            stretches.append(Stretch(sequence, positions, start))
            start += len(positions)
    return stretches
