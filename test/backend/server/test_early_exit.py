"""`early_exit` over a real socket: the same answers with and without drafts, what the answer says about them, what is refused, and what cannot be loaded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import torch
from draft_support import INVITING
from prometheus_client import CollectorRegistry

from gpu_backend.config import ConfigError, EngineConfig, ServerConfig, load_catalog
from gpu_backend.core import TokenGate
from gpu_backend.engine.metrics import EngineMetrics
from gpu_backend.models.causal_lm.exit_adapter import CONFIG, WEIGHTS, ExitAdapter, ExitAdapterConfig, ExitPoint
from gpu_backend.models.revision import revision_of
from gpu_backend.server import exit_adapters
from gpu_backend.server.app import create_app
from gpu_backend.server.early_exit import gate_of
from gpu_backend.server.errors import BackendError
from gpu_backend.server.loading import load_served_models
from gpu_backend.server.schemas import ChatRequest
from gpu_backend.server.served_model import ServedModel
from judge_support import BASE, row, spoiled, write_catalog

from .conftest import SECRET, serving
from .test_chat import BODY, chat, events_of, metric

LAYERS, EXIT = 2, 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of one chat model with an exit adapter: fresh, so it guesses as the model's own head would after one of two layers."""
    root = write_catalog(tmp_path_factory.mktemp("catalog")).parent
    (root / "models.toml").write_text(row("tiny", source="folder", path="base", capabilities=["chat"], exit_adapter="exit"))
    (spec,) = load_catalog(root / "models.toml")
    sizes = {"exit_layer": EXIT, "inner_layers": (), "hidden_size": 64, "width": 32, "shortlist_size": 260}
    known = {"acceptance": 0.9, "calibration": (0.9,) * 10, "points": (ExitPoint(max_risk=0.02, least_prob=0.5), ExitPoint(max_risk=0.05, least_prob=0.0))}
    config = ExitAdapterConfig(base=revision_of(spec, root / "base"), rms_norm_eps=1e-5, **sizes, **known)
    ExitAdapter.fresh(config, torch.arange(260), torch.ones(BASE["hidden_size"]), seed=0).save(root / "exit", torch.float32)
    return root


def load(folder: Path, registry: CollectorRegistry | None = None) -> list[ServedModel]:
    config = EngineConfig(dtype="float32", device="cpu", kv_cache_tokens=4096)
    return load_served_models(load_catalog(folder / "models.toml"), folder, config, EngineMetrics(registry or CollectorRegistry()))


@pytest.fixture
def client(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """Drafts always pay here: on a tiny model they would not."""
    monkeypatch.setattr(exit_adapters, "measure_round_costs", lambda model, drafter: INVITING)
    with serving(create_app(ServerConfig(secret=SECRET), lambda registry: load(folder, registry))) as served:
        yield served


def answer(client: httpx.Client, **changes: Any) -> dict[str, Any]:
    response = chat(client, **{"max_tokens": 40, **changes})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def test_lossless_gives_the_answer_of_full_depth_and_says_how_deep_it_went(client: httpx.Client) -> None:
    for sampling in ({"temperature": 0.0}, {"temperature": 1.0, "seed": 3}, {"temperature": 0.7, "seed": 4, "presence_penalty": 1.0}):
        off, lossless, auto = (answer(client, early_exit={"mode": mode}, **sampling) for mode in ("off", "lossless", "auto"))
        assert off["choices"] == lossless["choices"] == auto["choices"] and off["usage"]["completion_tokens"] == 40
        assert off["early_exit"] == {"mode": "off", "mean_exit_layer": 2.0, "layers_saved": 0, "accepted_drafts": 0, "min_confidence": 1.0}
        told = lossless["early_exit"]
        accepted = told["accepted_drafts"]
        assert told == {
            "mode": "lossless",
            "mean_exit_layer": round(2 - accepted / 40, 3),
            "layers_saved": accepted * (LAYERS - EXIT),
            "accepted_drafts": accepted,
            "min_confidence": 1.0,
        }
        assert auto["early_exit"]["mode"] == "lossless"
    assert metric(client, "attune_drafted_tokens_total", model="tiny") > 0


def test_gated_lets_guesses_stand_and_says_how_sure_they_are(client: httpx.Client) -> None:
    off, bold, safe = (answer(client, temperature=0.0, early_exit=mode) for mode in ({"mode": "off"}, gated(0.05), gated(0.02)))
    told = bold["early_exit"]
    # One of two layers is read by the model's own head: it is often wrong, and stands all the same. Only what ends an answer is verified.
    assert bold["choices"] != off["choices"] and bold["usage"]["completion_tokens"] == 40
    assert told["mode"] == "gated" and told["min_confidence"] == 0.9 and told["accepted_drafts"] > 20
    # No guess of this model has a probability of a half.
    assert safe["choices"] == off["choices"] and (safe["early_exit"]["mode"], safe["early_exit"]["min_confidence"]) == ("gated", 1.0)
    for verified in ({"temperature": 1.0, "seed": 3}, {"temperature": 0.0, "logprobs": True}, {"temperature": 0.0, "response_format": {"type": "json_object"}}):
        one, other = (answer(client, early_exit=mode, **verified) for mode in ({"mode": "off"}, gated(0.05)))
        assert one["choices"][0]["message"] == other["choices"][0]["message"] and other["early_exit"]["min_confidence"] == 1.0


def test_the_risk_is_known_without_an_adapter_only() -> None:
    model: Any = SimpleNamespace(exit_gates={0.05: TokenGate(0.4)})
    body = ChatRequest(**{**BODY, "early_exit": gated(0.05)})
    assert gate_of(model, body) == TokenGate(0.4)
    with pytest.raises(BackendError, match="not with an adapter"):
        gate_of(model, body.model_copy(update={"adapter": "a"}))


def gated(max_risk: float) -> dict[str, Any]:
    return {"mode": "gated", "max_risk": max_risk}


def test_who_does_not_ask_is_told_nothing_and_may_be_drafted_for(client: httpx.Client) -> None:
    before = metric(client, "attune_drafted_tokens_total", model="tiny")
    assert "early_exit" not in answer(client, temperature=0.0)
    assert metric(client, "attune_drafted_tokens_total", model="tiny") > before
    between = metric(client, "attune_drafted_tokens_total", model="tiny")
    answer(client, early_exit={"mode": "off"})
    assert metric(client, "attune_drafted_tokens_total", model="tiny") == between


def test_a_stream_says_it_with_its_usage(client: httpx.Client) -> None:
    events = events_of(chat(client, max_tokens=20, stream=True, include_usage=True, early_exit={"mode": "lossless"}))
    assert events[-1] == "[DONE]"
    assert events[-2]["early_exit"]["mode"] == "lossless" and events[-2]["usage"]["completion_tokens"] == 20
    assert not any("early_exit" in event for event in events[:-2])


@pytest.mark.parametrize(
    ("early_exit", "param"),
    [
        ({"mode": "gated", "max_risk": 0.03}, "early_exit.max_risk"),
        ({"mode": "gated"}, "early_exit.max_risk"),
        ({"mode": "often"}, "early_exit.mode"),
        ({"mode": "lossless", "max_risk": 1.5}, "early_exit.max_risk"),
        ({"mode": "lossless", "layer": 3}, "early_exit.layer"),
        ("lossless", "early_exit"),
    ],
)
def test_what_cannot_be_is_refused(client: httpx.Client, early_exit: object, param: str) -> None:
    response = chat(client, early_exit=early_exit)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_a_model_without_an_adapter_has_no_early_exit(folder: Path, tmp_path: Path) -> None:
    plain = Path(shutil.copytree(folder, tmp_path / "catalog"))
    (plain / "models.toml").write_text(row("tiny", source="folder", path="base", capabilities=["chat"]))
    with serving(create_app(ServerConfig(secret=SECRET), lambda registry: load(plain, registry))) as client:
        refused = chat(client, early_exit={"mode": "lossless"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_value")
        refused = chat(client, early_exit=gated(0.02))
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "early_exit.mode")
        told = answer(client, early_exit={"mode": "auto"})["early_exit"]
        assert told["mode"] == "off" and told["mean_exit_layer"] == 2.0
        assert chat(client, **{**BODY, "max_tokens": 4}).status_code == 200


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"base": "0123456789ab"}, "it was trained on the revision '0123456789ab'"),
        ({"exit_layer": 2}, "which this model does not have"),
        ({"shortlist_size": 3}, "its configuration says 3"),
        ({"width": 33}, "does not hold an exit adapter"),
        ({"more": 1}, "does not hold an exit adapter"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_at_start(folder: Path, tmp_path: Path, change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load(spoiled(folder, tmp_path, f"exit/{CONFIG}", change))


def test_a_missing_file_is_named(folder: Path, tmp_path: Path) -> None:
    root = spoiled(folder, tmp_path, f"exit/{CONFIG}", {})
    (root / "exit" / WEIGHTS).unlink()
    with pytest.raises(ConfigError, match=WEIGHTS):
        load(root)


def test_an_exit_adapter_belongs_to_the_row_of_its_base(folder: Path) -> None:
    (spec,) = load_catalog(folder / "models.toml")
    with pytest.raises(ConfigError, match="belongs to the row of its base"):
        replace(spec, source="adapter", base="tiny")


def test_costs_are_measured_on_this_machine(folder: Path) -> None:
    """Without the stand-in: whatever a tiny model's drafts cost, the answer is the same."""
    (model,) = load(folder)
    assert model.engine.exit_layer == EXIT and model.engine.num_layers == LAYERS
    lengths = model.engine._scheduler._draft_lengths
    assert lengths is not None and lengths.prior == 0.9
    assert lengths.costs.upper.of(1) > 0 and lengths.costs.lower.of(8) >= lengths.costs.lower.of(1)
