"""What does not fit the model is refused before it is queued; what fits lies in the cache so that only its equals find it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from toy_translator import ToyTranslator

from gpu_backend.core import HiddenStates, LabelScores, Pooling, Request, SamplingParams, UnfitRequestError
from gpu_backend.engine.admission import lay_out
from gpu_backend.layers.conditioning import EncoderSource, KVPrefix
from support import request, run_dry, tiny_engine, tiny_model

MODEL = tiny_model()


def prefix(num_layers: int = 3, num_positions: int = 5, num_heads: int = 2, head_dim: int = 8) -> KVPrefix:
    shape = (num_layers, num_positions, num_heads, head_dim)
    return KVPrefix(torch.ones(shape), torch.ones(shape))


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"task": LabelScores((5, 97))}, "between 0 and 96"),
        ({"task": LabelScores((-1,))}, "between 0 and 96"),
        ({"task": HiddenStates((4,))}, "between 0 and 3"),
        ({"task": HiddenStates((-1,))}, "between 0 and 3"),
        ({"conditioning": prefix(num_layers=2)}, r"shape \(3, 5, 2, 8\)"),
        ({"conditioning": prefix(num_heads=4)}, r"shape \(3, 5, 2, 8\)"),
        ({"conditioning": prefix(head_dim=4)}, r"shape \(3, 5, 2, 8\)"),
        ({"conditioning": prefix(num_positions=120)}, "131 positions, the model has 128"),
        ({"conditioning": EncoderSource((1,))}, "no encoder"),
        ({"prompt": [3, 97]}, "token ids must be between 0 and 96"),
        ({"prompt": [-1]}, "token ids must be between 0 and 96"),
        ({"max_tokens": 126}, "129 positions, the model has 128"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing_behind(asked: dict[str, Any], word: str) -> None:
    engine = tiny_engine(MODEL)
    with pytest.raises(UnfitRequestError, match=word):
        engine.add(request("r", **{"prompt": [1, 2, 3], **asked}))
    assert not engine.has_work
    engine.add(request("r", [1, 2, 3]))
    assert set(run_dry(engine)) == {"r"}


def test_a_source_that_the_encoder_cannot_read_is_refused() -> None:
    with pytest.raises(UnfitRequestError, match="does not know"):
        tiny_engine(ToyTranslator()).add(request("r", [1], conditioning=EncoderSource((97,))))


def test_a_prompt_that_leaves_no_room_for_one_more_token_is_refused() -> None:
    """It would wait for ever: the scheduler starts nothing without that room."""
    engine = tiny_engine(MODEL, kv_cache_tokens=16)
    with pytest.raises(AssertionError, match="never fit"):
        engine.add(request("r", [1] * 16, task=LabelScores((5,))))
    engine.add(request("r", [1] * 15, task=LabelScores((5,))))
    assert len(run_dry(engine)["r"]) == 2


@pytest.mark.parametrize("bad", [lambda: LabelScores(()), lambda: HiddenStates(()), lambda: HiddenStates((1, 1))])
def test_empty_tasks_are_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match="at least one"):
        bad()


def test_only_generation_has_choices() -> None:
    for task, num_choices in ((LabelScores((1,)), 2), (HiddenStates((1,)), 2), (SamplingParams(max_tokens=1), 0)):
        with pytest.raises(ValueError, match="num_choices"):
            Request(id="r", prompt_ids=(1,), task=task, num_choices=num_choices)


def test_a_plain_request_is_left_as_it_is() -> None:
    plain = request("r", [1, 2], cache_salt=b"salt")
    assert lay_out(plain) == plain


def test_a_prefix_takes_its_positions_and_its_own_salt() -> None:
    salts = set()
    for salt, num_positions in ((b"a", 5), (b"b", 5), (b"a", 6), (b"a", 5)):
        laid_out = lay_out(request("r", [7, 8], cache_salt=salt, conditioning=prefix(num_positions=num_positions)))
        assert laid_out.prompt_ids[num_positions:] == (7, 8)
        salts.add(laid_out.cache_salt)
    assert len(salts) == 3


def test_means_never_share_a_salt() -> None:
    asked = request("r", [1], task=HiddenStates((1,), Pooling.MEAN))
    assert lay_out(asked).cache_salt != lay_out(asked).cache_salt
