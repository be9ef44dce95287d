"""An adapter's tensors: laid out where they belong, and every wrong file refused with what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from gpu_backend.adapters import peft_weights
from gpu_backend.adapters.content import AdapterContent
from gpu_backend.adapters.peft_weights import load_adapter, parse_adapter, projection_shapes
from gpu_backend.core import AdapterError
from gpu_backend.layers.packed_lora import PackedAdapter
from gpu_backend.layers.torch_lora import TorchAdapter
from lora_support import ALL, content_of, random_adapter, store_content, tensors_of
from support import tiny_model

MODEL = tiny_model().config
CPU = torch.device("cpu")
Q0 = "base_model.model.model.layers.0.self_attn.q_proj"


def parse(content: AdapterContent) -> TorchAdapter:
    loaded = parse_adapter(content, MODEL, CPU, is_packed=False)
    assert isinstance(loaded, TorchAdapter)
    return loaded


def test_parts_go_to_their_columns_and_the_rest_is_zero() -> None:
    """Of q (32 columns), k (16) and v (16), the file has q and v; alpha 8 over rank 4 is a scale of 2."""
    tensors = tensors_of(MODEL, names=("q_proj", "v_proj"), layers=(1,))
    update = parse(content_of(tensors, lora_alpha=8)).updates
    assert set(update) == {(1, "qkv")}
    ((a_IR, b_RO),) = update[1, "qkv"].slices
    prefix = "base_model.model.model.layers.1.self_attn"
    assert torch.equal(a_IR[:, :4], tensors[f"{prefix}.q_proj.lora_A.weight"].T) and torch.equal(a_IR[:, 32:36], tensors[f"{prefix}.v_proj.lora_A.weight"].T)
    assert torch.equal(b_RO[:4, :32], 2 * tensors[f"{prefix}.q_proj.lora_B.weight"].T) and torch.equal(
        b_RO[:4, 48:], 2 * tensors[f"{prefix}.v_proj.lora_B.weight"].T
    )
    assert a_IR[:, 4:32].abs().sum() == a_IR[:, 36:].abs().sum() == b_RO[4:].abs().sum() == b_RO[:, 32:48].abs().sum() == 0


def test_patterns_of_rank_and_alpha_are_honoured() -> None:
    tensors = {**tensors_of(MODEL, names=("o_proj",), layers=(0,), rank=2), **tensors_of(MODEL, names=("o_proj",), layers=(1,), rank=4)}
    content = content_of(tensors, rank_pattern={"layers.0.self_attn.o_proj": 2}, alpha_pattern={"o_proj": 6})
    updates = parse(content).updates
    for layer, scale, rank in ((0, 3.0, 2), (1, 1.5, 4)):
        expected = scale * tensors[f"base_model.model.model.layers.{layer}.self_attn.o_proj.lora_B.weight"].T
        assert torch.allclose(updates[layer, "output"].slices[0][1][:rank], expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_are_read(dtype: torch.dtype) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in tensors_of(MODEL, names=("down_proj",)).items()}
    a_IR, _ = parse(content_of(tensors)).updates[0, "down"].slices[0]
    assert a_IR.dtype == torch.float32 and torch.equal(a_IR[:, :4], tensors["base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"].float().T)


def without_b(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name != f"{Q0}.lora_B.weight"}


def replaced(change: Callable[[Tensor], Tensor], letter: str = "A") -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {**tensors, f"{Q0}.lora_{letter}.weight": change(tensors[f"{Q0}.lora_{letter}.weight"]).contiguous()}


def renamed(new: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {(new if name == f"{Q0}.lora_A.weight" else name): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda tensors: {}, "0 tensors"),
        (lambda tensors: {f"{name}{copy}": tensor.clone() for name, tensor in tensors.items() for copy in range(50)}, "300 tensors"),
        (without_b, "only one of"),
        (replaced(lambda a: a.double()), "float64"),
        (replaced(lambda a: a.to(torch.int8)), "int8"),
        (replaced(lambda a: a[:2]), r"rank 4 this model takes \(4, 32\)"),
        (replaced(lambda a: a[:, :31]), "shape"),
        (replaced(lambda a: a.flatten()), "shape"),
        (replaced(lambda b: b.T, "B"), "shape"),
        (replaced(lambda a: a.index_fill(1, torch.tensor([3]), float("nan"))), "not finite"),
        (replaced(lambda b: b.index_fill(1, torch.tensor([3]), 3e38), "B"), "not finite"),
        (renamed("base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight"), "no place"),
        (renamed("base_model.model.model.layers.00.self_attn.q_proj.lora_A.weight"), "no place"),
        (renamed("base_model.model.model.layers.0.mlp.q_proj.lora_A.weight"), "no place"),
        (renamed(f"{Q0}.lora_magnitude_vector"), "no place"),
        (renamed(f"{Q0}.lora_A.weight\n"), "no place"),
        (renamed("base_model.model.lm_head.lora_A.weight"), "no place"),
        (renamed("base_model.model.model.embed_tokens.lora_embedding_A"), "no place"),
    ],
)
def test_every_wrong_file_is_refused_with_what_is_wrong(change: Callable[[dict[str, Tensor]], dict[str, Tensor]], word: str) -> None:
    tensors = tensors_of(MODEL, names=("q_proj",))
    parse(content_of(tensors, lora_alpha=40))
    with pytest.raises(AdapterError, match=word):
        parse(content_of(change(tensors), lora_alpha=40))


def header(entry: dict[str, object], data: bytes = b"\0" * 512) -> bytes:
    text = json.dumps({f"{Q0}.lora_A.weight": entry}).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "weights",
    [
        b"",
        b"short",
        b"\x80\x04\x95" + b"\0" * 50,
        save({"a": torch.zeros(3)})[:-1],
        save({"a": torch.zeros(3)}) + b"\0",
        header({"dtype": "F32", "shape": [4, 32], "data_offsets": [0, 100]}),
        header({"dtype": "F32", "shape": [4, 32], "data_offsets": [0, 10**15]}),
        header({"dtype": "F32", "shape": [-4, 32], "data_offsets": [0, 512]}),
        header({"dtype": "F99", "shape": [4, 32], "data_offsets": [0, 512]}),
    ],
)
def test_what_is_no_file_of_safetensors_is_refused(weights: bytes) -> None:
    with pytest.raises(AdapterError, match=r"safetensors"):
        parse(AdapterContent(weights, content_of({}).config))


def test_a_large_header_is_refused_unread() -> None:
    with pytest.raises(AdapterError, match="header"):
        parse(AdapterContent((peft_weights._MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b" " * 100, content_of({}).config))


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    adapter_id = random_adapter(tmp_path, MODEL)
    load_adapter(tmp_path, adapter_id, MODEL, CPU, is_packed=False)
    with pytest.raises(AdapterError, match="shape"):
        load_adapter(tmp_path, adapter_id, tiny_model(hidden_size=64).config, CPU, is_packed=False)
    with pytest.raises(AdapterError, match="no place"):
        of_layer_2 = store_content(tmp_path, content_of(tensors_of(MODEL, layers=(2,))))
        load_adapter(tmp_path, of_layer_2, tiny_model(num_hidden_layers=2).config, CPU, is_packed=False)


def test_packed_for_the_c_operators_an_adapter_takes_what_its_ranks_take() -> None:
    """Rank 16 everywhere but in k_proj (3 ranks: A has a strip of 16, B two pairs) and up_proj, which has no update."""
    model = tiny_model(head_dim=32, hidden_size=64, intermediate_size=96).config
    ranks = {**dict.fromkeys(ALL, 16), "k_proj": 3}
    tensors = {name: tensor for part in ALL if part != "up_proj" for name, tensor in tensors_of(model, names=(part,), rank=ranks[part]).items()}
    loaded = parse_adapter(content_of(tensors, r=16, rank_pattern={"k_proj": 3}), model, CPU, is_packed=True)
    assert isinstance(loaded, PackedAdapter) and loaded.max_rank == 16
    shapes = {part: shape for part, shape in projection_shapes(model).items() if part != "up_proj"}
    numbers = sum(16 * inputs + (4 if part == "k_proj" else 16) * outputs for part, (outputs, inputs) in shapes.items())
    assert loaded.num_bytes == 3 * (2 * numbers + 7 * 32)
