"""From rows to models: adapters share their base's engine and stay, and what cannot work fails at start with a sentence that says what."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import httpx
import pytest
import torch
from prometheus_client import CollectorRegistry
from safetensors.torch import load_file, save_file

from gpu_backend.adapters.content import CONFIG, WEIGHTS, read_folder
from gpu_backend.config import ConfigError, EngineConfig, ServerConfig, load_catalog
from gpu_backend.engine.metrics import EngineMetrics
from gpu_backend.prepare import main as prepare
from gpu_backend.server.app import create_app
from gpu_backend.server.loading import load_served_models
from gpu_backend.server.served_model import ServedModel
from judge_support import JUDGE_TEMPLATE, judge_table, row, write_adapter, write_catalog

from .conftest import SECRET, serving
from .test_chat import BODY


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_catalog(tmp_path_factory.mktemp("catalog")).parent


@pytest.fixture
def folder(shared: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(shared, tmp_path / "catalog"))


def load(folder: Path, registry: CollectorRegistry | None = None, adapters_dir: Path | None = None, **limits: int) -> list[ServedModel]:
    config = EngineConfig(**{"dtype": "float32", "device": "cpu", "kv_cache_tokens": 4096, **limits})  # type: ignore[arg-type]
    return load_served_models(load_catalog(folder / "models.toml"), folder, config, EngineMetrics(registry or CollectorRegistry()), adapters_dir)


def test_an_adapter_shares_the_engine_of_its_base(shared: Path) -> None:
    """Also where the backend takes no adapters from outside."""
    base, judge, own = load(shared)
    assert judge.engine is base.engine is not own.engine
    assert judge.adapter == read_folder(shared / "lora").id and judge.revision == judge.adapter[:12] != base.revision
    assert base.judge is None and judge.judge is not None and own.judge is not None and own.adapter is None
    assert judge.capabilities == ("reward", "conversations") and judge.context_length == base.context_length


def test_a_shipped_adapter_is_never_pushed_out_of_memory(shared: Path, tmp_path: Path) -> None:
    _, judge, _ = load(shared, adapters_dir=tmp_path)
    store = judge.engine._adapters
    assert store is not None and judge.adapter is not None
    assert store._resident[judge.adapter].num_pins == 1, "one pin that nobody lets go"
    assert list(tmp_path.iterdir()) == [], "nothing of it lies where callers' adapters come and go"


def test_models_ready_and_chat_know_it(shared: Path) -> None:
    with serving(create_app(ServerConfig(secret=SECRET), lambda registry: load(shared, registry))) as client:
        models = {model["id"]: model for model in client.get("/internal/models").json()["data"]}
        judge = ["reward", "conversations"]
        assert {name: model["capabilities"] for name, model in models.items()} == {"tiny": ["chat"], "tiny-judge": judge, "tiny-qwen3": ["reward"]}
        assert [model["id"] for model in client.get("/ready").json()["models"]] == ["tiny", "tiny-judge", "tiny-qwen3"]
        for name in ("tiny-judge", "tiny-qwen3"):
            error = chat(client, name).json()["error"]
            assert (error["code"], error["param"]) == ("unsupported_value", "model") and "Models that can: tiny." in error["message"]
        assert chat(client, "tiny").status_code == 200
        assert client.post("/internal/tokenize", json={"model": "tiny-judge", "text": "ab"}).json()["ids"] == [97, 98]


def chat(client: httpx.Client, model: str, **changes: object) -> httpx.Response:
    return client.post("/internal/chat", json={**BODY, "model": model, **changes})


def test_an_adapter_that_declares_chat_chats_with_its_weights(folder: Path) -> None:
    (folder / "models.toml").write_text(
        row("tiny", source="folder", path="base", capabilities=["chat"]) + row("tuned", source="adapter", base="tiny", path="lora", capabilities=["chat"])
    )
    with serving(create_app(ServerConfig(secret=SECRET), lambda registry: load(folder, registry))) as client:
        texts = [chat(client, model, max_tokens=20).json()["choices"][0]["message"]["content"] for model in ("tiny", "tuned", "tiny")]
        assert texts[0] == texts[2] != texts[1]
        error = chat(client, "tuned", adapter="0" * 64).json()["error"]
        assert (error["code"], error["param"]) == ("unsupported_value", "adapter")


def spoil_weights(folder: Path) -> None:
    (folder / "lora" / WEIGHTS).write_bytes(b"no tensors")


def spoil_shape(folder: Path) -> None:
    write_adapter(folder / "lora", r=8)


def remove_config(folder: Path) -> None:
    (folder / "lora" / CONFIG).unlink()


def change_template(folder: Path) -> None:
    (folder / "lora" / "judge.jinja").write_text("{{ a }}{{ b }}")


def remove_template(folder: Path) -> None:
    (folder / "qwen3" / "judge.jinja").unlink()


def break_template(folder: Path) -> None:
    template = "{{ nothing.at.all }}"
    (folder / "lora" / "judge.jinja").write_text(template)
    write_rows(folder, judge_table(template, max_tokens=600))


def spoil_numbers(file: Path) -> None:
    """All of its matrices and norms are NaN, which files can hold as well as any number."""
    save_file({name: torch.full_like(tensor, math.nan) for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})


def write_rows(folder: Path, judge: str) -> None:
    (folder / "models.toml").write_text(
        row("tiny", source="folder", path="base", capabilities=["chat"])
        + row("tiny-judge", source="adapter", base="tiny", path="lora", capabilities=["reward"])
        + judge
    )


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_weights, "tiny-judge.*cannot be used with tiny.*safetensors"),
        (spoil_shape, "tiny-judge.*cannot be used with tiny.*shape"),
        (remove_config, "tiny-judge: cannot read"),
        (change_template, "judge.jinja has SHA-256"),
        (remove_template, r"judge\.jinja beside the weights.*docs/judges\.md"),
        (break_template, "tiny-judge.*template"),
        (lambda folder: write_rows(folder, judge_table(JUDGE_TEMPLATE, max_tokens=1024)), "max_tokens .1024. must be below the model's context"),
        (lambda folder: write_rows(folder, judge_table(JUDGE_TEMPLATE, labels=["A", "both"])), "single tokens"),
        (lambda folder: spoil_numbers(folder / "base" / "model.safetensors"), "tiny-judge: its weights give no finite scores"),
        (lambda folder: spoil_numbers(folder / "qwen3" / "model.safetensors"), "tiny-qwen3: its weights give no finite scores"),
    ],
)
def test_what_cannot_work_fails_at_start_with_a_sentence(folder: Path, spoil: object, words: str) -> None:
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(ConfigError, match=words):
        load(folder)


def test_no_memory_for_a_shipped_adapter_is_said(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"tiny-judge.*bytes of memory"):
        load(folder, adapter_cache_bytes=1000)


def test_prepare_names_what_an_adapter_lacks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    remove_config(folder)
    assert prepare(["--models-dir", str(folder / "models"), "--catalog", str(folder / "models.toml")]) == 1
    assert f"lacks {CONFIG}" in capsys.readouterr().err
