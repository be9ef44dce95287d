"""`early_exit` of rewards over a real socket: verdicts that leave early say so, are what the gate reads, cost fewer layers; and what is refused."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from prometheus_client import CollectorRegistry

from gpu_backend.config import ConfigError, ServerConfig, load_catalog
from gpu_backend.core import HiddenStates, HiddenStatesReady, Request
from gpu_backend.decoding.early_exit.label_exit import CONFIG, WEIGHTS, LabelExit, LabelExitConfig, LabelPoint
from gpu_backend.models.revision import judge_revision
from gpu_backend.server.app import create_app
from gpu_backend.server.served_model import ServedModel
from judge_support import JUDGE_TEMPLATE, judge_table, row, spoiled, write_catalog
from support import run_dry

from .conftest import SECRET, serving
from .test_chat import metric
from .test_rewards import ANSWERS, INPUT, KIND, TRUE, loaded, ok, post, refused

LAYERS, EXIT = 2, 1
DIRECTION, BIAS = torch.randn(64, generator=torch.Generator().manual_seed(2)), 0.25
ALWAYS, NEVER = {"mode": "gated", "max_risk": 0.05}, {"mode": "gated"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge whose boldest point lets every prompt leave after one of two layers, and whose point of the default risk lets none."""
    root = write_catalog(tmp_path_factory.mktemp("catalog")).parent
    served = {model.spec.id: model for model in loaded(root, CollectorRegistry())}
    judge = served["tiny-judge"]
    assert judge.judge is not None
    rows = [
        row("tiny", source="folder", path="base", capabilities=["chat"]),
        row("tiny-judge", source="adapter", base="tiny", path="lora", capabilities=["reward"]) + judge_table(JUDGE_TEMPLATE, max_tokens=600, label_exit="exit"),
    ]
    (root / "models.toml").write_text("\n".join(rows))
    config = LabelExitConfig(
        judge=judge_revision(judge.judge.spec, served["tiny"].revision, judge.revision),
        layer=EXIT,
        slope=0.5,
        intercept=1.0,
        points=(LabelPoint(max_risk=0.01, threshold=1e9), LabelPoint(max_risk=0.05, threshold=0.0)),
    )
    LabelExit(config, DIRECTION, BIAS).save(root / "exit")
    return root


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    with serving(create_app(ServerConfig(secret=SECRET), lambda registry: loaded(folder, registry))) as running:
        yield running


def compared(client: httpx.Client, **body: Any) -> dict[str, Any]:
    return ok(post(client, "compare", a=ANSWERS[0], b=ANSWERS[1], **body))


def judge_of(folder: Path) -> ServedModel:
    return {model.spec.id: model for model in loaded(folder, CollectorRegistry())}["tiny-judge"]


def test_a_verdict_that_leaves_early_is_what_the_gate_reads(client: httpx.Client, folder: Path) -> None:
    answer = compared(client, early_exit=ALWAYS)
    served = judge_of(folder)
    assert served.judge is not None
    deltas = []
    for a, b in ((0, 1), (1, 0)):
        ids = tuple(served.judge.encode(INPUT, ANSWERS[a], ANSWERS[b]))
        served.engine.add(Request(id="r", prompt_ids=ids, task=HiddenStates((EXIT,)), adapter=served.adapter))
        states = run_dry(served.engine)["r"][0]
        assert isinstance(states, HiddenStatesReady)
        deltas.append(float(torch.tensor(states.states[0]) @ DIRECTION + BIAS))
    assert answer["raw"] == pytest.approx((deltas[0] - deltas[1]) / 2, abs=1e-4)
    for order, delta in zip(answer["orders"], deltas, strict=True):
        assert order["logprobs"]["A"] - order["logprobs"]["B"] == pytest.approx(delta, abs=1e-4)
        assert math.exp(order["logprobs"]["A"]) + math.exp(order["logprobs"]["B"]) == pytest.approx(1)
    assert answer["early_exit"] == {
        "mode": "gated",
        "mean_exit_layer": float(EXIT),
        "layers_saved": 2 * (LAYERS - EXIT),
        "early_forwards": 2,
        "min_confidence": pytest.approx(1 / (1 + math.exp(-(0.5 * min(map(abs, deltas)) + 1.0))), abs=1e-4),
    }


def test_where_the_gate_is_not_sure_the_verdict_is_that_of_full_depth(client: httpx.Client) -> None:
    plain, unsure = compared(client), compared(client, early_exit=NEVER)
    depth = {"mode": "gated", "mean_exit_layer": float(LAYERS), "layers_saved": 0, "early_forwards": 0, "min_confidence": 1.0}
    assert unsure == {**plain, "usage": unsure["usage"], "early_exit": depth}
    assert plain["early_exit"] is None


@pytest.mark.parametrize("early_exit", [{"mode": "off"}, {"mode": "auto"}, {}])
def test_whoever_does_not_choose_a_risk_gets_full_depth(client: httpx.Client, early_exit: dict[str, Any]) -> None:
    before = metric(client, "attune_early_labels_total", model="tiny")
    plain, told = compared(client), compared(client, early_exit=early_exit)
    assert told["early_exit"] == {"mode": "off", "mean_exit_layer": float(LAYERS), "layers_saved": 0, "early_forwards": 0, "min_confidence": 1.0}
    assert told["orders"] == plain["orders"]
    assert metric(client, "attune_early_labels_total", model="tiny") == before


@pytest.mark.parametrize("changes", [{}, {"average": "logit"}, {"criteria": [KIND, TRUE]}])
def test_swapping_the_answers_swaps_an_early_verdict(client: httpx.Client, changes: dict[str, Any]) -> None:
    for a, b in ((0, 1), (2, 4), (5, 3)):
        one = ok(post(client, "compare", a=ANSWERS[a], b=ANSWERS[b], early_exit=ALWAYS, **changes))
        other = ok(post(client, "compare", a=ANSWERS[b], b=ANSWERS[a], early_exit=ALWAYS, **changes))
        assert one["probability_a"] + other["probability_a"] == pytest.approx(1.0, abs=1e-4)
        assert one["early_exit"]["early_forwards"] == one["num_forwards"]
    even = ok(post(client, "compare", a="the same", b="the same", early_exit=ALWAYS))
    assert (even["probability_a"], even["winner"]) == (0.5, "tie")


@pytest.mark.parametrize(("operation", "body"), [("rank", {"method": "round_robin"}), ("rank", {"method": "adaptive"}), ("score", {})])
def test_many_answers_leave_early_and_still_share_their_beginnings(client: httpx.Client, operation: str, body: dict[str, Any]) -> None:
    """The part up to the second answer goes through all layers once, so that it is found as often as at full depth."""
    off, gated = (
        ok(post(client, operation, responses=ANSWERS, end_user=f"{operation} {body} {mode}", early_exit=mode, **body)) for mode in ({"mode": "off"}, ALWAYS)
    )
    assert gated["early_exit"]["early_forwards"] == gated["num_forwards"]
    assert gated["early_exit"]["mean_exit_layer"] == EXIT
    if body.get("method") != "adaptive":
        assert gated["usage"]["cached_tokens"] == off["usage"]["cached_tokens"] > 0


def test_another_pair_finds_the_question(client: httpx.Client) -> None:
    question = [{"role": "user", "content": "Why is the sky blue, and why is it red when the sun goes down? " * 3}]
    for mode in ({"mode": "off"}, ALWAYS):
        first, second = (
            ok(post(client, "compare", a=a, b=b, input=question, end_user=f"pair {mode}", early_exit=mode))["usage"]
            for a, b in ((ANSWERS[0], ANSWERS[1]), (ANSWERS[2], ANSWERS[3]))
        )
        assert (first["cached_tokens"], second["cached_tokens"]) == (0, 2 * 192)


@pytest.mark.parametrize(
    ("early_exit", "code", "param"),
    [
        ({"mode": "lossless"}, "unsupported_value", "early_exit.mode"),
        ({"mode": "gated", "max_risk": 0.02}, "unsupported_value", "early_exit.max_risk"),
        ({"mode": "gated", "max_risk": 0}, "invalid_value", "early_exit.max_risk"),
        ({"mode": "often"}, "invalid_value", "early_exit.mode"),
        ({"mode": "gated", "layer": 3}, "invalid_value", "early_exit.layer"),
    ],
)
def test_what_cannot_be_is_refused(client: httpx.Client, early_exit: dict[str, Any], code: str, param: str) -> None:
    response = post(client, "compare", a="a", b="b", early_exit=early_exit)
    assert refused(response)[0] == 400 and refused(response)[2] == param
    if code == "unsupported_value":
        assert refused(response)[1] == code
    if early_exit.get("max_risk") == 0.02:
        assert "0.01, 0.05" in response.json()["error"]["message"]


def test_a_judge_without_a_label_exit_has_no_early_verdicts(folder: Path, tmp_path: Path) -> None:
    plain = Path(shutil.copytree(folder, tmp_path / "catalog", copy_function=shutil.copy2))
    (plain / "models.toml").write_text((plain / "models.toml").read_text().replace('label_exit = "exit"\n', ""))
    with serving(create_app(ServerConfig(secret=SECRET), lambda registry: loaded(plain, registry))) as client:
        assert refused(post(client, "compare", a="a", b="b", early_exit=ALWAYS)) == (400, "unsupported_value", "early_exit.mode")
        assert compared(client, early_exit={"mode": "auto"})["early_exit"]["mode"] == "off"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"judge": "one/of/others"}, "it was fitted to the judge 'one/of/others'"),
        ({"layer": LAYERS}, "which this model does not have"),
        ({"more": 1}, "does not hold a label exit"),
        ({"points": [{"max_risk": 0.01, "threshold": 1.0}, {"max_risk": 0.02, "threshold": 2.0}]}, "a bolder point has a lower threshold"),
    ],
)
def test_a_label_exit_that_does_not_fit_is_refused_at_start(folder: Path, tmp_path: Path, change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        judge_of(spoiled(folder, tmp_path, f"exit/{CONFIG}", change))


def test_other_weights_of_the_judge_are_refused(folder: Path, tmp_path: Path) -> None:
    root = spoiled(folder, tmp_path, f"exit/{CONFIG}", {})
    config = root / "lora" / "adapter_config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(ConfigError, match="it was fitted to the judge"):
        judge_of(root)


def test_a_missing_file_is_named(folder: Path, tmp_path: Path) -> None:
    root = spoiled(folder, tmp_path, f"exit/{CONFIG}", {})
    (root / "exit" / WEIGHTS).unlink()
    with pytest.raises(ConfigError, match=WEIGHTS):
        judge_of(root)


def test_what_is_saved_is_what_is_loaded(folder: Path) -> None:
    label_exit = LabelExit.load(folder / "exit")
    assert torch.equal(label_exit.direction_H, DIRECTION) and label_exit.bias == BIAS
    assert [gate.threshold for gate in label_exit.gates.values()] == [1e9, 0.0]
    (spec,) = (spec for spec in load_catalog(folder / "models.toml") if spec.id == "tiny-judge")
    assert spec.label_exit_folder == folder / "exit"


def test_broken_numbers_are_refused() -> None:
    config = LabelExitConfig(judge="j", layer=1, slope=1.0, intercept=0.0, points=())
    for direction, bias in ((torch.tensor([math.nan]), 0.0), (torch.ones(1), math.inf), (torch.ones(1, 1), 0.0)):
        with pytest.raises(ValueError, match="finite"):
            LabelExit(config, direction, bias)
