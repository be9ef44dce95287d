"""From the rows of models.toml to models that are ready: those with weights of their own first, then adapters that share the engine of one of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from gpu_backend.adapters.content import CONFIG, WEIGHTS, AdapterContent, read_folder
from gpu_backend.config import ConfigError, EngineConfig, ModelSpec
from gpu_backend.core import AdapterError, EngineOverloadedError, Request, SamplingParams, UnfitRequestError
from gpu_backend.engine.metrics import EngineMetrics
from gpu_backend.models.revision import judge_revision
from gpu_backend.models.reward.judge import Judge
from gpu_backend.server.label_exits import load_label_exit
from gpu_backend.server.served_model import ServedModel, find_tool_call_tokens, load_served_model, prove_judge, warm_up

logger = logging.getLogger(__name__)


def load_served_models(
    specs: Sequence[ModelSpec], models_dir: Path, config: EngineConfig, metrics: EngineMetrics, adapters_dir: Path | None = None
) -> list[ServedModel]:
    """In the order of the rows, each proved by a real forward pass. Raises ConfigError, OSError or UnsupportedModelError."""
    contents = {spec.id: _read_adapter(spec, models_dir) for spec in specs if spec.source == "adapter"}
    served: dict[str, ServedModel] = {}
    for spec in specs:
        if spec.source != "adapter":
            shipped = {contents[other.id].id: contents[other.id] for other in specs if other.base == spec.id}
            served[spec.id] = load_served_model(spec, models_dir, config, metrics, adapters_dir, shipped)
    for spec in specs:
        if spec.source == "adapter":
            assert spec.base is not None, "the row was checked"
            served[spec.id] = _on_base(spec, served[spec.base], models_dir, contents[spec.id].id)
    return [served[spec.id] for spec in specs]


def _read_adapter(spec: ModelSpec, models_dir: Path) -> AdapterContent:
    folder = spec.folder(models_dir)
    try:
        return read_folder(folder)
    except OSError as error:
        raise ConfigError(f"models.toml: {spec.id}: cannot read {WEIGHTS} and {CONFIG} in {folder} ({error.strerror})") from error
    except AdapterError as error:
        raise ConfigError(f"models.toml: {spec.id}: the adapter in {folder} cannot be used: {error}") from error


def _on_base(spec: ModelSpec, base: ServedModel, models_dir: Path, adapter_id: str) -> ServedModel:
    """The base's engine with an adapter that stays in its memory for good: nothing that callers bring can push it out."""
    folder = spec.folder(models_dir)
    judge = None if spec.judge is None else Judge.from_folder(folder, base.tokenizer, spec.judge)
    try:
        base.engine.pin_adapter(adapter_id)
        label_exit = None
        if judge is not None:
            prove_judge(spec, judge, base.engine, base.context_length, adapter_id)
            label_exit = load_label_exit(spec, base.engine, judge_revision(judge.spec, base.revision, adapter_id[:12]))
        else:
            sampling = SamplingParams(max_tokens=2, temperature=0.0)
            warm_up(base.engine, Request(id="warm-up", prompt_ids=(0, 1, 2), task=sampling, adapter=adapter_id))
    except (AdapterError, UnfitRequestError) as error:
        raise ConfigError(f"models.toml: {spec.id}: the adapter in {folder} cannot be used with {base.spec.id}: {error}") from error
    except EngineOverloadedError as error:
        raise ConfigError(f"models.toml: {spec.id}: --adapter-cache-bytes leaves no room for the adapters of {base.spec.id}") from error
    logger.info("model loaded", extra={"model": spec.id, "base": base.spec.id})
    return ServedModel(
        spec=spec,
        revision=adapter_id[:12],
        context_length=base.context_length,
        tokenizer=base.tokenizer,
        template=base.template,
        engine=base.engine,
        grammars=base.grammars,
        tool_call_tokens=find_tool_call_tokens(spec, base.tokenizer, base.template),
        judge=judge,
        label_exit=label_exit,
        adapter=adapter_id,
        grammar_queue=base.grammar_queue,
    )
