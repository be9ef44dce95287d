"""A model that is loaded and ready: its row, tokenizer, templates and engine; and how it gets there from weights of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from gpu_backend.adapters.content import AdapterContent
from gpu_backend.adapters.peft_weights import load_adapter, parse_adapter
from gpu_backend.chat_template import ChatTemplate, TemplateRefusedError
from gpu_backend.config import ConfigError, EngineConfig, ModelSpec
from gpu_backend.core import AdapterNotFoundError, Event, LabelScores, LabelScoresReady, Request, SamplingParams, TokenGate
from gpu_backend.decoding.early_exit.label_exit import LabelExit
from gpu_backend.decoding.grammar import CompiledGrammar, GrammarCompiler
from gpu_backend.decoding.tool_calls import TAGS
from gpu_backend.engine.adapter_store import AdapterStore
from gpu_backend.engine.engine import Engine
from gpu_backend.engine.metrics import EngineMetrics
from gpu_backend.engine.model_runner import ModelRunner
from gpu_backend.layers.lora import LoraAdapter
from gpu_backend.models.causal_lm.model import CausalLM
from gpu_backend.models.causal_lm.open_model import open_model
from gpu_backend.models.causal_lm.texts import load_texts
from gpu_backend.models.revision import judge_revision, revision_of
from gpu_backend.models.reward.judge import Judge
from gpu_backend.server.exit_adapters import load_exit_adapter
from gpu_backend.server.grammar_queue import GrammarQueue
from gpu_backend.server.label_exits import load_label_exit
from gpu_backend.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedModel:
    """`adapter` is the id of the one that makes this model out of another, with which it shares `engine`; `judge` is there when it can judge answers,
    `label_exit` when its verdicts can leave early; `exit_gates` are those by which its tokens can, by their risk."""

    spec: ModelSpec
    revision: str
    context_length: int
    tokenizer: Tokenizer
    template: ChatTemplate | None
    engine: Engine
    grammars: GrammarCompiler
    tool_call_tokens: tuple[int, int] | None = None
    judge: Judge | None = None
    label_exit: LabelExit | None = None
    exit_gates: Mapping[float, TokenGate] = field(default_factory=dict)
    adapter: str | None = None
    grammar_queue: GrammarQueue = field(default_factory=GrammarQueue)

    @property
    def vocab_size(self) -> int:
        """Ids that both have: the model's vocabulary may be padded, and the tokenizer's may have tokens that the model never learned."""
        return min(self.engine.vocab_size, self.tokenizer.vocab_size)

    async def compile_grammar(self, text: str) -> CompiledGrammar:
        """At once where it is known, else in its turn beside the event loop. Raises GrammarError, or BackendError when too many wait."""
        found = self.grammars.find(text)
        return found if found is not None else await self.grammar_queue.run(lambda: self.grammars.compile(text))

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What its row declares, `tools` where it can call them, and `conversations` where it judges those, too, and not one question alone."""
        more = {"tools": self.tool_call_tokens is not None, "conversations": self.judge is not None and self.judge.reads_conversations}
        return (*self.spec.capabilities, *(name for name, can in more.items() if can))


def load_served_model(
    spec: ModelSpec,
    models_dir: Path,
    config: EngineConfig,
    metrics: EngineMetrics,
    adapters_dir: Path | None = None,
    shipped: Mapping[str, AdapterContent] = MappingProxyType({}),
) -> ServedModel:
    """Read weights, tokenizer and templates, and prove them with one real forward pass. `shipped` are adapters that its engine must know besides those in
    `adapters_dir`. Raises ConfigError, OSError or UnsupportedModelError."""
    started = time.monotonic()
    path = spec.folder(models_dir)
    model = open_model(path, models_dir, config)
    if config.weight_dtype == "int8" and model.fused is None:
        raise ConfigError(f"--weight-dtype int8 needs the C operators, which {spec.id} does not run with on this machine: leave it out")
    tokenizer, template, end_ids = load_texts(path)
    tool_call_tokens = find_tool_call_tokens(spec, tokenizer, template)
    context_length = model.config.max_positions
    if config.kv_cache_tokens < context_length:
        raise ConfigError(f"kv_cache_tokens ({config.kv_cache_tokens}) must hold at least one full context of {spec.id} ({context_length})")
    grammars = GrammarCompiler(tokenizer, model.config.vocab_size, end_ids)
    judge = None if spec.judge is None else Judge.from_folder(path if path.is_dir() else path.parent, tokenizer, spec.judge)
    adapters = None if adapters_dir is None and not shipped else open_adapters(spec.id, model, adapters_dir, config, metrics, shipped)
    revision = revision_of(spec, path)
    early = load_exit_adapter(spec, model, revision, frozenset(end_ids))
    drafter, draft_lengths = (None, None) if early is None else (early.drafter, early.lengths)
    engine = Engine(spec.id, ModelRunner(model, config, adapters, drafter), tokenizer, config, end_ids, metrics, draft_lengths=draft_lengths)
    warm_up(engine, Request(id="warm-up", prompt_ids=(0, 1, 2), task=SamplingParams(max_tokens=2, temperature=0.0)))
    label_exit: LabelExit | None = None
    if judge is not None:
        prove_judge(spec, judge, engine, context_length)
        label_exit = load_label_exit(spec, engine, judge_revision(judge.spec, revision))
    logger.info(
        "model loaded",
        extra={
            "model": spec.id,
            "seconds": round(time.monotonic() - started, 2),
            "device": str(model.device),
            "dtype": str(model.dtype),
            "native": model.fused is not None,
        },
    )
    gates = {} if early is None else early.gates
    return ServedModel(spec, revision, context_length, tokenizer, template, engine, grammars, tool_call_tokens, judge, label_exit, gates)


def find_tool_call_tokens(spec: ModelSpec, tokenizer: Tokenizer, template: ChatTemplate | None) -> tuple[int, int] | None:
    """Ids of the two tags around a call; None for a model without tools. Raises ConfigError when the model cannot do what its row says."""
    if spec.tool_call_format is None:
        return None
    if template is None or not template.takes_tools:
        raise ConfigError(f"models.toml: {spec.id}: tool_call_format needs a chat template that renders `tools`")
    missing = [tag for tag in TAGS if tag not in tokenizer.control_ids]
    if missing:
        raise ConfigError(f"models.toml: {spec.id}: tool_call_format 'hermes' needs the tokens {' and '.join(missing)}, which its tokenizer lacks")
    return tokenizer.control_ids[TAGS[0]], tokenizer.control_ids[TAGS[1]]


def open_adapters(
    name: str,
    model: CausalLM,
    adapters_dir: Path | None,
    config: EngineConfig,
    metrics: EngineMetrics,
    shipped: Mapping[str, AdapterContent] = MappingProxyType({}),
) -> AdapterStore[LoraAdapter]:
    """Adapters of this model: those that are shipped with it, and those in `adapters_dir`, which are read when they are first used."""

    is_packed = model.fused is not None

    def load(adapter_id: str) -> LoraAdapter:
        if adapter_id in shipped:
            return parse_adapter(shipped[adapter_id], model.config, model.device, is_packed=is_packed)
        if adapters_dir is None:
            raise AdapterNotFoundError(adapter_id)
        return load_adapter(adapters_dir, adapter_id, model.config, model.device, is_packed=is_packed)

    return AdapterStore(load, config.adapter_cache_bytes, metrics, name)


def prove_judge(spec: ModelSpec, judge: Judge, engine: Engine, context_length: int, adapter: str | None = None) -> None:
    """One real judgement, before anybody waits for it. Raises ConfigError when the row promises what the model cannot do."""
    if judge.spec.max_tokens >= context_length:
        raise ConfigError(f"models.toml: {spec.id}: judge.max_tokens ({judge.spec.max_tokens}) must be below the model's context ({context_length})")
    try:
        prompt_ids = tuple(judge.encode([{"role": "user", "content": "?"}], "a", "b"))
    except TemplateRefusedError as error:
        raise ConfigError(f"models.toml: {spec.id}: its judge template cannot be used: {error}") from error
    events = warm_up(engine, Request(id="warm-up", prompt_ids=prompt_ids, task=LabelScores(judge.label_ids), adapter=adapter))
    if not all(event.is_finite for event in events if isinstance(event, LabelScoresReady)):
        raise ConfigError(f"models.toml: {spec.id}: its weights give no finite scores for its labels: they are damaged, or were trained to NaN; replace them")


def warm_up(engine: Engine, request: Request) -> list[Event]:
    """One request through the whole engine, before anybody waits for it."""
    events: list[Event] = []
    engine.add(request)
    while engine.has_work:
        events += [event for _, event in engine.step()]
    if engine.num_failed_steps:
        raise ConfigError(f"{engine.name}: the first forward pass failed, see the log above")
    return events
