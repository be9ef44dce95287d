"""What a judge reads and what not, over a real socket: its own labels, whole conversations, beginnings of texts, large bodies, and numbers that are none."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from prometheus_client import CollectorRegistry

from gpu_backend.config import ServerConfig
from gpu_backend.core import LabelScores, LabelScoresReady, Request
from gpu_backend.engine.model_runner import ModelRunner
from gpu_backend.engine.rows import Stretch
from gpu_backend.engine.sequence import Sequence
from gpu_backend.server.app import create_app
from gpu_backend.server.body_limit import MAX_REWARD_BODY_BYTES
from judge_support import THINKING_TEMPLATE, judge_table, row, write_catalog
from support import run_dry

from .conftest import SECRET, serving
from .test_rewards import ANSWERS, INPUT, ROUNDING, loaded, ok, post, refused, sigmoid

CONVERSATION = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}, *INPUT]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_catalog(tmp_path_factory.mktemp("catalog")).parent


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    with serving(create_app(ServerConfig(secret=SECRET), lambda registry: loaded(folder, registry))) as running:
        yield running


def test_the_labels_of_a_row_are_read_and_called_by_their_slots(folder: Path, tmp_path: Path, start: Callable[..., httpx.Client]) -> None:
    shutil.copytree(folder / "qwen3", tmp_path / "qwen3")
    numbered = row("numbered", source="folder", path="qwen3", capabilities=["reward"])
    (tmp_path / "models.toml").write_text(numbered + judge_table(THINKING_TEMPLATE, max_tokens=600, labels=["1", "2"]))
    client = start(create_app(ServerConfig(secret=SECRET), lambda registry: loaded(tmp_path, registry)))
    body = {"model": "numbered", "a": ANSWERS[0], "b": ANSWERS[1]}
    answer = ok(post(client, "compare", **body))
    for order, turn in zip(answer["orders"], (1, -1), strict=True):
        assert list(order["logprobs"]) == ["A", "B"]
        difference = order["logprobs"]["A"] - order["logprobs"]["B"]
        assert order["probability_a"] == pytest.approx(sigmoid(turn * difference), abs=1e-6)
    (served,) = loaded(tmp_path, CollectorRegistry())
    assert served.judge is not None and served.judge.label_ids == (ord("1"), ord("2"))
    ids = tuple(served.judge.encode(INPUT, ANSWERS[0], ANSWERS[1]))
    served.engine.add(Request(id="r", prompt_ids=ids, task=LabelScores((ord("1"), ord("2")))))
    scores = run_dry(served.engine)["r"][0]
    assert isinstance(scores, LabelScoresReady)
    assert list(answer["orders"][0]["logprobs"].values()) == pytest.approx(scores.logprobs, abs=1e-4)


@pytest.mark.parametrize(
    ("operation", "answers"), [("compare", {"a": "x", "b": "y"}), ("score", {"responses": ["x"], "against": "anchor"}), ("rank", {"responses": ["x", "y"]})]
)
def test_turns_that_a_template_would_ignore_are_refused(client: httpx.Client, operation: str, answers: dict[str, Any]) -> None:
    """tiny-qwen3 reads the last one only, tiny-judge all."""
    response = post(client, operation, model="tiny-qwen3", input=CONVERSATION, **answers)
    assert refused(response) == (400, "unsupported_value", "input")
    message = response.json()["error"]["message"]
    assert "does not read, number 1 of 3" in message and "send one user message" in message
    ok(post(client, operation, model="tiny-qwen3", input=CONVERSATION[2:], **answers))
    ok(post(client, operation, model="tiny-judge", input=CONVERSATION, **answers))


def test_scores_that_are_no_numbers_end_their_request_alone(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts with a tilde read as NaN, in the same steps as others."""
    read_logits = ModelRunner._logits

    def spoiled(self: ModelRunner, hidden_NH: torch.Tensor, stretches: list[Stretch]) -> dict[Sequence, torch.Tensor]:
        read = read_logits(self, hidden_NH, stretches)
        return {sequence: logits_V * math.nan if ord("~") in sequence.token_ids else logits_V for sequence, logits_V in read.items()}

    def ask(answer: str) -> httpx.Response:
        with httpx.Client(base_url=client.base_url, headers=client.headers, timeout=30, trust_env=False) as own:
            return post(own, "rank", responses=[f"{index} {answer}" for index in range(6)])

    expected = ok(ask("good"))
    monkeypatch.setattr(ModelRunner, "_logits", spoiled)
    with ThreadPoolExecutor(4) as pool:
        bad, *good = pool.map(ask, ["~", "good", "good", "good"])
    error = bad.json()["error"]
    assert (bad.status_code, error["type"], error["code"]) == (500, "server_error", "internal_error") and "not numbers" in error["message"]
    for answer in map(ok, good):
        assert [one["index"] for one in answer["results"]] == [one["index"] for one in expected["results"]]
    decision = {"model": "tiny-judge", "input": [{"role": "user", "content": "~"}], "questions": [{"text": "?", "labels": ["x", "y"]}]}
    assert refused(client.post("/internal/decisions", json=decision)) == (500, "internal_error", None)


def test_no_more_is_read_than_the_caller_wants(client: httpx.Client) -> None:
    """A token is a byte. What is cut off cannot matter, and says so; the anchor and a reference are read whole."""
    body: dict[str, Any] = {"responses": ["yes, but longer", "yes"], "against": "reference", "reference": "a long reference"}
    cut = ok(post(client, "score", **body, max_response_tokens=3))
    whole = ok(post(client, "score", **body))
    assert [one["truncated"] for one in cut["data"]] == [True, False] and [one["truncated"] for one in whole["data"]] == [False, False]
    assert cut["data"][0]["probability"] == cut["data"][1]["probability"] == pytest.approx(whole["data"][1]["probability"], rel=0, abs=ROUNDING)
    assert whole["data"][0]["probability"] != whole["data"][1]["probability"]
    question = INPUT[0]["content"]
    begun = ok(post(client, "score", **body, max_input_tokens=3))
    short = ok(post(client, "score", **body, input=[{"role": "user", "content": question[:3]}]))
    assert [one["truncated"] for one in begun["data"]] == [True, True]
    assert [one["raw"] for one in begun["data"]] == pytest.approx([one["raw"] for one in short["data"]], rel=0, abs=ROUNDING)


def test_prompts_are_as_short_as_the_caller_wants(client: httpx.Client) -> None:
    body: dict[str, Any] = {"responses": ["w" * 200], "against": "anchor", "max_prompt_tokens": 120}
    (one,) = ok(post(client, "score", **body, truncation="auto"))["data"]
    assert one["truncated"] and 80 < one["input_tokens"] <= 120
    assert refused(post(client, "score", **body)) == (400, "context_length_exceeded", "responses[0]")
    response = post(client, "score", **{**body, "max_prompt_tokens": 40}, truncation="auto")
    assert refused(response) == (400, "invalid_value", "max_prompt_tokens") and "takes at least" in response.json()["error"]["message"]
    (one,) = ok(post(client, "score", **{**body, "max_prompt_tokens": 100_000}, truncation="disabled"))["data"]
    assert not one["truncated"]


def test_a_body_of_seven_mebibytes_is_read(client: httpx.Client) -> None:
    """As large as the edge lets through, and room to spare; one that is larger than the backend takes is refused unread."""
    body = {"model": "tiny-judge", "input": INPUT, "responses": ["word " * 22_950] * 64, "truncation": "auto", "max_comparisons": 1}
    content = json.dumps(body).encode()
    assert 7 * 1024 * 1024 < len(content) < 8 * 1024 * 1024 < MAX_REWARD_BODY_BYTES
    headers = {"content-type": "application/json"}
    answer = ok(client.post("/internal/rewards/rank", content=content, headers=headers, timeout=120))
    assert answer["truncated"] == [True] * 64 and answer["num_comparisons"] == 1
    response = client.post("/internal/rewards/rank", content=content + b" " * (MAX_REWARD_BODY_BYTES - len(content) + 1), headers=headers)
    assert refused(response) == (413, "request_too_large", None)
