"""The model as the server loads it, for benches that drive its engine themselves, and the stretch of decoding that they time."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prometheus_client import CollectorRegistry

from gpu_backend.config import EngineConfig, ModelSpec, load_catalog
from gpu_backend.core import Delta, Event, Failed, Finished, Request
from gpu_backend.engine.engine import Engine
from gpu_backend.engine.metrics import EngineMetrics
from gpu_backend.server.loading import load_served_models
from gpu_backend.server.served_model import ServedModel, load_served_model
from gpu_backend.tokenizer import Tokenizer


def models_dir() -> Path:
    return Path(os.environ["ATTUNE_MODELS_DIR"])


@dataclass(frozen=True)
class Bench:
    """An engine with a count of the tokens it generated."""

    served: ServedModel
    registry: CollectorRegistry

    @property
    def engine(self) -> Engine:
        return self.served.engine

    @property
    def tokenizer(self) -> Tokenizer:
        return self.served.tokenizer

    @property
    def num_generated(self) -> int:
        return self.count("attune_generated_tokens_total")

    def count(self, name: str) -> int:
        """A counter of the engine's, such as attune_drafted_tokens_total."""
        return int(self.registry.get_sample_value(name, {"model": self.engine.name}) or 0)


def load(config: EngineConfig | None = None, *, ends_early: bool = False, adapters_dir: Path | None = None, exit_adapter: Path | None = None) -> Bench:
    """Unless `ends_early`, answers have exactly the length they ask for: the model's end token is a token like any other. `exit_adapter` takes the place of
    the model's own."""
    registry = CollectorRegistry()
    spec = load_catalog()[0]
    if exit_adapter is not None:
        spec = replace(spec, exit_adapter=str(exit_adapter.resolve()))
    served = load_served_model(spec, models_dir(), config or EngineConfig(), EngineMetrics(registry), adapters_dir)
    if not ends_early:
        served.engine._end_token_ids = frozenset()
    return Bench(served, registry)


def load_judge(specs: dict[str, ModelSpec], name: str, *, reuses_prefixes: bool = True) -> ServedModel:
    """With its base, where it is an adapter."""
    needed = [spec for spec in specs.values() if spec.id in (name, specs[name].base)]
    served = load_served_models(needed, models_dir(), EngineConfig(reuses_prefixes=reuses_prefixes), EngineMetrics(CollectorRegistry()))
    return next(model for model in served if model.spec.id == name)


def checked(events: list[tuple[str, Event]]) -> list[tuple[str, Event]]:
    """The same events; a request that failed has no place in a measurement."""
    failed = [event for _, event in events if isinstance(event, Failed)]
    if failed:
        raise RuntimeError(f"a request failed: {failed[0].message}")
    return events


def run_all(bench: Bench, requests: Sequence[Request]) -> float:
    """Seconds from adding all of them at once until the last one ends."""
    started = time.perf_counter()
    for request in requests:
        bench.engine.add(request)
    while bench.engine.has_work:
        checked(bench.engine.step())
    return time.perf_counter() - started


def decode_speed(bench: Bench, requests: Sequence[Request]) -> float:
    """Tokens per second from when all requests have their first text until the first of them ends: no prompts, the whole batch at work."""
    for request in requests:
        bench.engine.add(request)
    silent = {request.id for request in requests}
    while silent:
        silent -= {request_id for request_id, event in checked(bench.engine.step()) if isinstance(event, Delta)}
    before, started, has_ended = bench.num_generated, time.perf_counter(), False
    while not has_ended:
        has_ended = any(isinstance(event, Finished) for _, event in checked(bench.engine.step()))
    speed = (bench.num_generated - before) / (time.perf_counter() - started)
    while bench.engine.has_work:
        bench.engine.step()
    return speed
