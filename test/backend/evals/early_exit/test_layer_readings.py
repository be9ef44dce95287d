"""Readings against the model itself: the last layer is the whole model, both halves of a layer make it up, texts do not touch each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gpu_backend.data.judge_rows import TextRow
from gpu_backend.decoding.reference import full_logits, whole_texts
from gpu_backend.evals.early_exit.layer_readings import read_layers
from gpu_backend.models.causal_lm.model import DecoderLayer
from support import tiny_model

TEXTS = [TextRow((1, 5, 9, 80, 3, 7), 2, 6), TextRow((4, 4, 60, 2), 1, 4), TextRow((7, 8), 1, 2)]


def test_the_last_layer_is_the_whole_model() -> None:
    model = tiny_model(num_hidden_layers=5)
    readings = read_layers(model, TEXTS)
    wanted = [full_logits(model, list(text.ids))[text.start - 1 : -1].argmax(dim=-1).tolist() for text in TEXTS]
    assert readings.tokens_LP[-1].tolist() == [token for tokens in wanted for token in tokens]
    assert readings.tokens_LP.shape == (5, 4 + 3 + 1)
    assert readings.text_P.tolist() == [0] * 4 + [1] * 3 + [2]
    assert readings.agrees_LP[-1].all()


def test_both_halves_make_up_a_layer() -> None:
    model = tiny_model()
    batch, cache = whole_texts(model, [[3, 1, 4, 1, 5]])
    x = model.embed(batch.token_ids_N)
    block = model.blocks[0]
    assert isinstance(block, DecoderLayer)
    middle = block.attend(x, cache, 0, batch)
    whole = model.run_layers(x, 0, 1, cache, batch)
    assert torch.equal(middle + block.mlp(block.mlp_norm(middle), None), whole)
    assert not torch.equal(middle, whole)


def test_an_inner_layer_is_read_as_a_shorter_model_would_say_it() -> None:
    deep, shallow = tiny_model(num_hidden_layers=4), tiny_model(num_hidden_layers=2)
    assert read_layers(deep, TEXTS).tokens_LP[1].tolist() == read_layers(shallow, TEXTS).tokens_LP[-1].tolist()


def test_a_text_alone_reads_the_same() -> None:
    model = tiny_model()
    together, alone = read_layers(model, TEXTS), read_layers(model, TEXTS[1:2])
    picked = together.of_texts([1])
    assert picked.tokens_LP.tolist() == alone.tokens_LP.tolist()
    assert picked.attention_tokens_LP.tolist() == alone.attention_tokens_LP.tolist()
    for gate, scores_LP in alone.scores.items():
        np.testing.assert_array_equal(picked.scores[gate], scores_LP)


def test_what_a_text_says_later_changes_nothing_before() -> None:
    model = tiny_model()
    short, longer = read_layers(model, [TextRow((1, 5, 9), 1, 3)]), read_layers(model, [TextRow((1, 5, 9, 70, 2), 1, 5)])
    np.testing.assert_array_equal(short.tokens_LP, longer.tokens_LP[:, :2])
    np.testing.assert_allclose(short.scores["entropy"], longer.scores["entropy"][:, :2], atol=1e-6)


def test_what_is_left_unread_says_so() -> None:
    model = tiny_model(num_hidden_layers=4)
    whole, part = read_layers(model, TEXTS), read_layers(model, TEXTS, first_layer=3, with_attention=False)
    np.testing.assert_array_equal(part.tokens_LP[2:], whole.tokens_LP[2:])
    assert (part.tokens_LP[:2] == -1).all() and (part.attention_tokens_LP == -1).all()
    for gate, scores_LP in part.scores.items():
        np.testing.assert_array_equal(scores_LP[2:], whole.scores[gate][2:])
        assert (scores_LP[:2] == -1).all()


def test_progress_counts_texts() -> None:
    seen: list[tuple[int, int]] = []
    read_layers(tiny_model(), TEXTS, lambda done, num: seen.append((done, num)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_model_of_whole_layers_is_refused() -> None:
    model = tiny_model()
    model.fused = object()  # type: ignore[assignment]
    with pytest.raises(ValueError, match="torch operators"):
        read_layers(model, TEXTS)
