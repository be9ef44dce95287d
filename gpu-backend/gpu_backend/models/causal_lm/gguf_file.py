"""Reads a GGUF file as if it were a Hugging Face folder: config.json, tensors under their usual names (dequantised), tokenizer and template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor

from gpu_backend.kernels.packing import Q4_1_BLOCK_BYTES, Q8_0_BLOCK_BYTES, pack_q4_1, pack_q8_0
from gpu_backend.models.causal_lm.config import UnsupportedModelError

_PACKERS = {gguf.GGMLQuantizationType.Q4_1: (pack_q4_1, Q4_1_BLOCK_BYTES), gguf.GGMLQuantizationType.Q8_0: (pack_q8_0, Q8_0_BLOCK_BYTES)}

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


class GgufFile:
    """A memory-mapped GGUF file of a supported architecture."""

    def __init__(self, path: Path) -> None:
        self._reader = gguf.GGUFReader(path)
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self.architecture = str(self.field("general.architecture", ""))
        if self.architecture not in ("llama", "qwen2", "qwen3"):
            raise UnsupportedModelError(f"{path.name}: GGUF architecture {self.architecture!r} is not one of llama, qwen2, qwen3")

    def field(self, key: str, default: Any = None) -> Any:
        found = self._reader.get_field(key)
        return default if found is None else found.contents()

    def config(self) -> dict[str, Any]:
        """The same keys as a `config.json`."""
        num_heads = self._required("attention.head_count")
        hidden_size = self._required("embedding_length")
        head_dim = self._shape("attention.key_length") or hidden_size // num_heads
        config = {
            "model_type": self.architecture,
            "architectures": [{"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}[self.architecture]],
            "vocab_size": len(self.field("tokenizer.ggml.tokens", [])) or int(self._required("vocab_size")),
            "hidden_size": hidden_size,
            "intermediate_size": self._required("feed_forward_length"),
            "num_hidden_layers": self._required("block_count"),
            "num_attention_heads": num_heads,
            "num_key_value_heads": self._shape("attention.head_count_kv") or num_heads,
            "head_dim": head_dim,
            "hidden_act": "silu",
            "max_position_embeddings": self._required("context_length"),
            "rms_norm_eps": float(self._required("attention.layer_norm_rms_epsilon")),
            "rope_theta": float(self.field(f"{self.architecture}.rope.freq_base", 10_000.0)),
            "tie_word_embeddings": "output.weight" not in self._tensors,
            "attention_bias": "blk.0.attn_q.bias" in self._tensors,
            "bos_token_id": self.field("tokenizer.ggml.bos_token_id"),
            "eos_token_id": self.field("tokenizer.ggml.eos_token_id"),
            "dtype": "bfloat16",
        }
        scaling = self._rope_scaling()
        if scaling:
            config["rope_scaling"] = scaling
        return config

    def tensor(self, name: str) -> Tensor:
        """Dequantised float32 tensor under its Hugging Face name, in Hugging Face layout."""
        stored = self._tensors.get(self._gguf_name(name))
        if stored is None:
            raise UnsupportedModelError(f"the GGUF file has no tensor for {name!r}")
        values = np.ascontiguousarray(gguf.quants.dequantize(stored.data, stored.tensor_type), dtype=np.float32)
        tensor = torch.from_numpy(values.reshape(tuple(int(size) for size in reversed(stored.shape))).copy())
        return self._in_hugging_face_order(name, tensor)

    def packed(self, name: str) -> Tensor | None:
        """The same weight as packed records, without dequantising, where its type is one that the C operators read."""
        stored = self._tensors.get(self._gguf_name(name))
        pack = None if stored is None else _PACKERS.get(stored.tensor_type)
        if stored is None or pack is None:
            return None
        pack_blocks, block_bytes = pack
        num_outputs = int(stored.shape[1])
        blocks_OKB = torch.from_numpy(np.array(stored.data, dtype=np.uint8)).view(num_outputs, -1, block_bytes)
        return pack_blocks(self._in_hugging_face_order(name, blocks_OKB))

    def tensor_names(self) -> list[str]:
        """Every tensor of the file under its Hugging Face name."""
        back = {gguf_name: name for name, gguf_name in _NAMES.items()}
        names = []
        for stored in self._tensors:
            if stored == "rope_freqs.weight":
                continue
            stem, _, suffix = stored.rpartition(".")
            if stem.startswith("blk."):
                _, index, part = stem.split(".", 2)
                names.append(f"model.layers.{index}.{back[part]}.{suffix}")
            else:
                names.append(f"{back[stem]}.{suffix}")
        return names

    def _gguf_name(self, name: str) -> str:
        stem, _, suffix = name.rpartition(".")
        if stem.startswith("model.layers."):
            _, _, index, part = stem.split(".", 3)
            return f"blk.{index}.{_NAMES[part]}.{suffix}"
        return f"{_NAMES[stem]}.{suffix}"

    def _in_hugging_face_order(self, name: str, rows: Tensor) -> Tensor:
        """llama.cpp stores the q and k rows of the llama architecture with the two rotary halves interleaved."""
        if self.architecture != "llama" or (".q_proj." not in name and ".k_proj." not in name):
            return rows
        key = "attention.head_count" if ".q_proj." in name else "attention.head_count_kv"
        return _deinterleave(rows, int(self._required(key)))

    def _shape(self, key: str) -> Any:
        return self.field(f"{self.architecture}.{key}")

    def _required(self, key: str) -> Any:
        value = self._shape(key)
        if value is None:
            raise UnsupportedModelError(f"the GGUF file lacks {self.architecture}.{key}")
        return value

    def _rope_scaling(self) -> dict[str, Any] | None:
        kind = self._shape("rope.scaling.type")
        if "rope_freqs.weight" in self._tensors:
            raise UnsupportedModelError("GGUF files with tabulated rope frequencies are not supported: use the safetensors weights")
        if kind in (None, "none"):
            return None
        return {
            "rope_type": kind,
            "factor": self._shape("rope.scaling.factor"),
            "original_max_position_embeddings": self._shape("rope.scaling.original_context_length"),
        }


def _deinterleave(tensor: Tensor, num_heads: int) -> Tensor:
    """Rows (head, pair, half) -> (head, half, pair); works on weights (out, in) and biases (out,)."""
    grouped = tensor.view(num_heads, tensor.shape[0] // num_heads // 2, 2, *tensor.shape[1:])
    return grouped.transpose(1, 2).reshape(tensor.shape)
