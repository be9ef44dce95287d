"""Conditioning is known by its contents, and what could spoil the cache for others is refused."""

from __future__ import annotations

import pytest
import torch

from gpu_backend.layers.conditioning import EncoderSource, KVPrefix

KEYS = torch.arange(24.0).view(1, 3, 2, 4)


def test_equal_contents_have_equal_digests_and_others_do_not() -> None:
    digest = KVPrefix(KEYS, -KEYS).digest
    assert KVPrefix(KEYS.clone(), -KEYS).digest == digest
    assert KVPrefix(KEYS.bfloat16(), -KEYS.bfloat16()).digest == digest, "small whole numbers are the same in both types"
    changed = KEYS.clone()
    changed[0, 2, 1, 3] += 1
    others = [KVPrefix(changed, -KEYS), KVPrefix(KEYS, -changed), KVPrefix(-KEYS, KEYS), KVPrefix(KEYS.view(1, 6, 1, 4), -KEYS.view(1, 6, 1, 4))]
    assert len({digest, *(other.digest for other in others)}) == 5


def test_a_prefix_is_a_copy() -> None:
    keys = KEYS.clone()
    prefix = KVPrefix(keys, KEYS)
    keys.zero_()
    assert torch.equal(prefix.keys_LPGD, KEYS) and prefix.num_positions == 3


@pytest.mark.parametrize(
    ("keys", "values", "word"),
    [
        (KEYS[0], KEYS[0], "layers, positions"),
        (KEYS, KEYS[:, :2], "layers, positions"),
        (KEYS[:, :0], KEYS[:, :0], "layers, positions"),
        (KEYS, KEYS.log().nan_to_num(float("nan"), float("inf"), float("nan")), "65504"),
        (KEYS * float("inf"), KEYS, "65504"),
        (KEYS, KEYS * 1e5, "65504"),
    ],
)
def test_what_is_no_prefix_is_refused(keys: torch.Tensor, values: torch.Tensor, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        KVPrefix(keys, values)


def test_a_source_is_known_by_its_tokens() -> None:
    assert EncoderSource((1, 2)).digest == EncoderSource((1, 2)).digest
    assert len({EncoderSource(tokens).digest for tokens in ((1, 2), (2, 1), (1,), (1, 2, 0))}) == 4
    with pytest.raises(ValueError, match="at least one token"):
        EncoderSource(())
