"""Prompts with a common beginning as one sequence: its layout by hand, and that a model makes of it what it makes of the prompts one by one."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from gpu_backend.data.branched import branched, branched_length, num_shared
from support import TINY

CPU = torch.device("cpu")


def test_the_common_beginning_is_laid_out_once_and_each_rest_sees_it_and_itself() -> None:
    (ids_BT, positions_BT, sees_BTT), rows_K, last_K = branched([[(7, 8, 1), (7, 8, 2, 3)], [(9,)]], CPU)
    assert ids_BT.shape == (2, 32), "a multiple of 32"
    assert ids_BT[0, :6].tolist() == [7, 8, 1, 2, 3, 0] and ids_BT[1, :2].tolist() == [9, 0]
    assert positions_BT[0, :5].tolist() == [0, 1, 2, 2, 3]
    assert sees_BTT[0, :5, :6].int().tolist() == [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0], [1, 1, 0, 1, 1, 0]]
    assert sees_BTT.any(dim=2).all(), "a token that sees none has no softmax"
    assert rows_K.tolist() == [0, 0, 1] and last_K.tolist() == [2, 4, 0]


def test_prompts_that_are_equal_or_begin_one_another_keep_a_last_token_of_their_own() -> None:
    assert num_shared([(1, 2, 3), (1, 2, 3)]) == 2 and num_shared([(1, 2), (1, 2, 3)]) == 1 and num_shared([(1,), (2, 3)]) == 0
    assert num_shared([(1, 2, 3, 4), (1, 2, 3, 5), (1, 2, 6, 7)]) == 2
    assert branched_length([(1, 2, 3), (1, 2, 3)]) == 4 and branched_length([(1, 2, 3, 4), (1, 2, 3, 5), (1, 2, 6, 7)]) == 8
    assert branched_length([(1, 2, 3)]) == 3


def test_a_model_gives_the_logits_and_gradients_of_the_prompts_one_by_one() -> None:
    shape = {name: value for name, value in TINY.items() if name != "model_type"}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**{**shape, "initializer_range": 0.2})).float().eval()
    rows = [[(5, 6, 7, 8, 9), (5, 6, 7, 20, 21, 22, 23)], [(30, 31), (30, 31)], [(40, 41, 42, 43)]]

    def gradients(losses: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad(losses.square().sum(), list(model.parameters())))

    alone = torch.stack([model(torch.tensor([prompt])).logits[0, -1] for prompts in rows for prompt in prompts])
    (ids_BT, positions_BT, sees_BTT), rows_K, last_K = branched(rows, CPU)
    mask = torch.zeros(sees_BTT.shape).masked_fill(~sees_BTT, torch.finfo(torch.float32).min)[:, None]
    together = model(input_ids=ids_BT, position_ids=positions_BT, attention_mask=mask).logits[rows_K, last_K]
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    for found, expected in zip(gradients(together), gradients(alone), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-2, rtol=1e-3)
