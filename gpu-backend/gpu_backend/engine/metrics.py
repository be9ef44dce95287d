"""What the engine counts, in Prometheus' terms. Labels never hold user data."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class EngineMetrics:
    """One set per process; every engine labels its samples with its model."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, ["model", *labels], registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, ["model"], buckets=buckets, registry=registry)

        self.running = Gauge("attune_requests_running", "Requests of which at least one choice is running", ["model"], registry=registry)
        self.waiting = Gauge("attune_requests_waiting", "Requests that wait for their first step", ["model"], registry=registry)
        self.free_blocks = Gauge("attune_kv_blocks_free", "Blocks of the key/value pool that nobody holds", ["model"], registry=registry)
        self.requests = counter("attune_requests_total", "Requests by how they ended", "outcome")
        self.prompt_tokens = counter("attune_prompt_tokens_total", "Prompt tokens of admitted requests")
        self.cached_tokens = counter("attune_cached_prompt_tokens_total", "Prompt tokens of finished requests that were found in the cache")
        self.generated_tokens = counter("attune_generated_tokens_total", "Tokens generated")
        self.drafted_tokens = counter("attune_drafted_tokens_total", "Tokens guessed by an early exit, to be verified at full depth")
        self.accepted_drafts = counter("attune_accepted_drafts_total", "Of these, the ones that became part of an answer")
        self.early_labels = counter("attune_early_labels_total", "Prompts whose label was read at an inner layer")
        self.preemptions = counter("attune_preemptions_total", "Sequences that gave their blocks back and were computed anew")
        self.adapter_loads = counter("attune_adapter_loads_total", "Adapters that were read from disk")
        self.adapter_evictions = counter("attune_adapter_evictions_total", "Adapters that made room for others")
        self.adapter_bytes = Gauge("attune_adapter_resident_bytes", "Memory that loaded adapters take", ["model"], registry=registry)
        self.first_token = histogram("attune_time_to_first_token_seconds", "From admission to the first token", (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30))
        self.token_time = histogram(
            "attune_time_per_token_seconds",
            "Mean time between the tokens of a choice, of each finished request",
            (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
        )
        self.batch = histogram("attune_batch_sequences", "Sequences in one step", (1, 2, 4, 8, 16, 32, 64))
        self.step = histogram("attune_step_seconds", "One engine step", (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5))


class StepMetrics:
    """What every step of one model touches: looked up by its label once, not in each step."""

    def __init__(self, metrics: EngineMetrics, model: str) -> None:
        self.batch = metrics.batch.labels(model)
        self.step = metrics.step.labels(model)
        self.preemptions = metrics.preemptions.labels(model)
        self.generated_tokens = metrics.generated_tokens.labels(model)
        self.drafted_tokens = metrics.drafted_tokens.labels(model)
        self.accepted_drafts = metrics.accepted_drafts.labels(model)
