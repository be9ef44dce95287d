"""Builders that several tests use: tiny random models that run in milliseconds, a byte tokenizer, an engine over a tiny model, and a loop that runs it dry."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from prometheus_client import CollectorRegistry

from gpu_backend.config import EngineConfig
from gpu_backend.core import Conditioning, Delta, Event, Failed, Finished, GrammarError, HiddenStates, LabelScores, Request, SamplingParams
from gpu_backend.decoding.sampling import SamplerState, sample
from gpu_backend.engine.decode_graphs import Recorder
from gpu_backend.engine.engine import Engine
from gpu_backend.engine.metrics import EngineMetrics
from gpu_backend.engine.model_runner import ModelRunner
from gpu_backend.kernels.native import NativeKernels
from gpu_backend.models.causal_lm.config import parse_config
from gpu_backend.models.causal_lm.model import CausalLM
from gpu_backend.models.causal_lm.weights import WeightDtype, build
from gpu_backend.models.interface import Decoder
from gpu_backend.tokenizer import Tokenizer

TINY = {
    "model_type": "llama",
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": True,
}


def tiny_model(
    seed: int = 0,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    native: NativeKernels | None = None,
    weight_dtype: WeightDtype = "auto",
    recorded: dict[str, torch.Tensor] | None = None,
    **overrides: Any,
) -> CausalLM:
    """A random decoder; the same seed gives the same weights, in whatever order they are read.

    `recorded` receives them under their usual names, for a twin that computes by itself.
    """
    config = parse_config({**TINY, **overrides})
    sizes = {
        "q_proj": (config.q_size, config.hidden_size),
        "k_proj": (config.kv_size, config.hidden_size),
        "v_proj": (config.kv_size, config.hidden_size),
        "o_proj": (config.hidden_size, config.q_size),
        "gate_proj": (config.intermediate_size, config.hidden_size),
        "up_proj": (config.intermediate_size, config.hidden_size),
        "down_proj": (config.hidden_size, config.intermediate_size),
    }

    def read(name: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + zlib.crc32(name.encode()))
        part = name.split(".")[-2]
        if "norm" in part:
            return 1 + 0.1 * torch.randn(config.head_dim if part in ("q_norm", "k_norm") else config.hidden_size, generator=generator)
        size = sizes.get(part, (config.vocab_size, config.hidden_size))
        return torch.randn(size if name.endswith("weight") else size[:1], generator=generator) * 0.25

    def read_and_record(name: str) -> torch.Tensor:
        tensor = read(name)
        if recorded is not None:
            recorded[name] = tensor
        return tensor

    return build(config, Weights(read_and_record), dtype=dtype, device=torch.device(device), native=native, weight_dtype=weight_dtype)


@dataclass(frozen=True)
class Weights:
    """A source of dense weights from a function."""

    tensor: Callable[[str], torch.Tensor]

    def packed(self, name: str) -> None:
        return None


def byte_tokenizer(control: tuple[str, ...] = ("<|start|>", "<|end|>"), merges: tuple[tuple[str, str], ...] = ()) -> Tokenizer:
    return Tokenizer(byte_tokenizer_json(control, merges))


def byte_tokenizer_json(control: tuple[str, ...], merges: tuple[tuple[str, str], ...] = ()) -> str:
    """Byte-level BPE with 256 byte tokens, the given merges, and control tokens behind them, as a tokenizer.json."""
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in itself]
    letters = {byte: chr(byte) for byte in itself} | {byte: chr(256 + index) for index, byte in enumerate(others)}
    vocab = {letters[byte]: byte for byte in range(256)}
    for left, right in merges:
        vocab[left + right] = len(vocab)
    added = [{"id": len(vocab) + index, "content": token, "special": True, **_PLAIN} for index, token in enumerate(control)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    model = {"type": "BPE", "vocab": vocab, "merges": [list(merge) for merge in merges]}
    return json.dumps({"version": "1.0", "added_tokens": added, "pre_tokenizer": byte_level, "decoder": byte_level, "model": model})


TOOL_CONTROL = ("<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>")
# ChatML with tools in the Hermes manner: functions as JSON lines, calls between tags, results as turns of their own.
TOOL_TEMPLATE = """\
{%- if tools %}<|im_start|>functions
{% for tool in tools %}{{ tool.function | tojson }}
{% endfor %}<|im_end|>
{% endif %}
{%- for m in messages %}<|im_start|>{{ 'result ' ~ m.tool_call_id if m.role == 'tool' else m.role }}
{{ m.content }}
{%- for call in m.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


_PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def tiny_engine(model: Decoder, *, end_token_ids: tuple[int, ...] = (), clock: Any = None, recorder: Recorder | None = None, **limits: Any) -> Engine:
    """An engine with small limits; ids of the tiny model are bytes, so its text is what the byte tokenizer says."""
    config = EngineConfig(**{"max_num_sequences": 4, "max_tokens_per_step": 16, "kv_block_size": 4, "kv_cache_tokens": 256, **limits})
    extra = {} if clock is None else {"clock": clock}
    return Engine("tiny", ModelRunner(model, config, recorder=recorder), byte_tokenizer(), config, end_token_ids, EngineMetrics(CollectorRegistry()), **extra)


def request(
    name: str,
    prompt: list[int],
    *,
    task: LabelScores | HiddenStates | None = None,
    num_choices: int = 1,
    deadline_s: float | None = None,
    cache_salt: bytes = b"",
    conditioning: Conditioning | None = None,
    **sampling: Any,
) -> Request:
    """Generates, with these sampling parameters, unless another task is given."""
    return Request(
        id=name,
        prompt_ids=tuple(prompt),
        task=task or SamplingParams(**{"max_tokens": 8, "temperature": 0.0, **sampling}),
        num_choices=num_choices,
        deadline_s=deadline_s,
        cache_salt=cache_salt,
        conditioning=conditioning,
    )


def run_dry(engine: Engine, max_steps: int = 2000) -> dict[str, list[Event]]:
    """Step until nothing is left; -> events by request."""
    events: dict[str, list[Event]] = {}
    for _ in range(max_steps):
        if not engine.has_work:
            return events
        for name, event in engine.step():
            events.setdefault(name, []).append(event)
    raise AssertionError(f"the engine still has work after {max_steps} steps")


def spell_from_noise(state: SamplerState, tokenizer: Tokenizer, end_id: int, seed: int, max_tokens: int) -> list[int] | None:
    """Ids sampled from noise under the state's grammar, up to the end; None when they did not get there."""
    generator = torch.Generator().manual_seed(seed)
    ids: list[int] = []
    for _ in range(max_tokens):
        (token,) = sample(torch.randn(1, tokenizer.vocab_size, generator=generator), [state])
        assert not isinstance(token, GrammarError)
        ids.append(token.token_id)
        assert state.grammar is not None
        if token.token_id == end_id or state.grammar.is_finished:
            return ids
    return None


def text_of(events: list[Event], choice: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta) and event.choice == choice)


def num_terminal(events: list[Event]) -> int:
    return sum(isinstance(event, Finished | Failed) for event in events)
