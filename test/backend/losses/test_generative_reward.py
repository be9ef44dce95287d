"""The preference loss against hand arithmetic: smoothing, its minimum, the factor of two, and what gets a gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from gpu_backend.losses.bradley_terry import bradley_terry_loss
from gpu_backend.losses.generative_reward import GenerativeRewardLoss, GenerativeRewardLossConfig, smoothed_margin_loss, winner_margins
from gpu_backend.losses.language_modeling import language_modeling_loss

# Softplus(-2.1), the cross entropy of logits 1.7 and -0.4.
PLAIN = 0.1155195232


def of_pair(first: list[float], second: list[float], epsilon: float = 0.05, **config: float) -> torch.Tensor:
    return GenerativeRewardLoss(GenerativeRewardLossConfig(epsilon, **config))(torch.tensor([[first, second]])).loss


@pytest.mark.parametrize(("epsilon", "expected"), [(0.0, PLAIN), (0.05, PLAIN + 0.05 * 2.1), (0.1, PLAIN + 0.1 * 2.1)])
def test_smoothing_adds_epsilon_times_the_margin(epsilon: float, expected: float) -> None:
    assert of_pair([1.7, -0.4], [-0.4, 1.7], epsilon).item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.1])
def test_pytorchs_label_smoothing_is_twice_epsilon(epsilon: float) -> None:
    config = GenerativeRewardLossConfig(epsilon)
    theirs = functional.cross_entropy(torch.tensor([[1.7, -0.4]]), torch.tensor([0]), label_smoothing=config.label_smoothing)
    assert theirs.item() == pytest.approx(of_pair([1.7, -0.4], [-0.4, 1.7], epsilon).item(), abs=1e-6)
    if epsilon:
        trap = functional.cross_entropy(torch.tensor([[1.7, -0.4]]), torch.tensor([0]), label_smoothing=epsilon)
        assert abs(trap.item() - theirs.item()) > 0.05


@pytest.mark.parametrize(("epsilon", "best"), [(0.05, 2.9444389792), (0.1, 2.1972245773)])
def test_the_loss_is_smallest_where_the_margin_is_the_log_odds(epsilon: float, best: float) -> None:
    margin = torch.tensor(best, dtype=torch.float64, requires_grad=True)
    loss = smoothed_margin_loss(margin, epsilon)
    loss.backward()
    assert margin.grad is not None and abs(margin.grad.item()) < 1e-9
    entropy = -epsilon * math.log(epsilon) - (1 - epsilon) * math.log(1 - epsilon)
    assert loss.item() == pytest.approx(entropy, abs=1e-9)
    assert all(smoothed_margin_loss(torch.tensor(best + step, dtype=torch.float64), epsilon) > loss for step in (-0.1, 0.1))


def test_each_pair_may_have_a_flip_rate_of_its_own() -> None:
    # Margins 2.1 in both orders of two pairs: softplus(-2.1) and 0.05 of the margin, or 0.3 of it.
    logits = torch.tensor([[[1.7, -0.4], [-0.4, 1.7]]] * 2)
    loss = GenerativeRewardLoss(GenerativeRewardLossConfig(epsilon=0.2))(logits, epsilon_P=torch.tensor([0.05, 0.3])).loss
    assert loss.item() == pytest.approx(PLAIN + (0.05 + 0.3) / 2 * 2.1, abs=1e-6)


@pytest.mark.parametrize("target", [-0.7, 0.0, 1.3])
def test_a_flip_rate_of_sigmoid_minus_t_makes_the_loss_smallest_at_t_in_both_orders(target: float) -> None:
    logits = torch.tensor([[[target, 0.0], [0.0, target]]], dtype=torch.float64, requires_grad=True)
    GenerativeRewardLoss(GenerativeRewardLossConfig())(logits, epsilon_P=torch.sigmoid(torch.tensor([-target]))).loss.backward()
    assert logits.grad is not None and logits.grad.abs().max() < 1e-7


def test_the_smallest_loss_at_five_per_cent() -> None:
    assert smoothed_margin_loss(torch.tensor(2.9444389792, dtype=torch.float64), 0.05).item() == pytest.approx(0.1985152433, abs=1e-9)


@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.3])
def test_no_margin_costs_ln_2(epsilon: float) -> None:
    assert of_pair([4.0, 4.0], [-1.0, -1.0], epsilon).item() == pytest.approx(0.6931471806, abs=1e-6)


def test_the_whole_vocabulary_costs_more_by_what_the_labels_lack() -> None:
    logits = torch.tensor([2.0, 0.5, 1.0, -1.0], dtype=torch.float64)
    restricted = smoothed_margin_loss(logits[0] - logits[1], 0.05)
    logprobs = logits.log_softmax(dim=0)
    full = -0.95 * logprobs[0] - 0.05 * logprobs[1]
    assert restricted.item() == pytest.approx(0.2764132780, abs=1e-9)
    assert full.item() == pytest.approx(0.5701818981, abs=1e-9)
    assert (full - restricted).item() == pytest.approx(-math.log(logprobs[:2].exp().sum().item()), abs=1e-9)


def test_margins_point_to_the_better_answer_in_both_orders() -> None:
    # The better answer is in slot A of the first order (3 - 1) and in slot B of the second (2.5 - 0.5): the axis is the label, not the order.
    margins = winner_margins(torch.tensor([[[3.0, 1.0], [0.5, 2.5]], [[-3.0, -5.0], [4.5, 6.5]]]))
    assert margins.tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert torch.sigmoid(margins).mean(dim=1).tolist() == pytest.approx([0.8807970780, 0.8807970780])


def test_a_pair_seen_in_one_order_counts_as_much_as_one_seen_in_both() -> None:
    # Margins 2 and -1 of the first pair, of which the second is not seen; 1 and 3 of the other. No smoothing: softplus(-2); softplus(-1) and softplus(-3).
    logits = torch.tensor([[[2.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 3.0]]], requires_grad=True)
    seen = torch.tensor([[True, False], [True, True]])
    output = GenerativeRewardLoss(GenerativeRewardLossConfig(epsilon=0.0, order_penalty=0.5))(logits, seen)
    # The order penalty is that of the second pair alone: half of ((1 - 3) / 2) squared.
    assert output.loss.item() == pytest.approx((0.1269280 + (0.3132617 + 0.0485874) / 2) / 2 + 0.5, abs=1e-6)
    assert output.metrics == pytest.approx({"accuracy": 1.0, "consistency": 1.0, "margin": 2.0, "position_bias": -1.0})
    output.loss.backward()
    assert logits.grad is not None and logits.grad[0, 1].abs().sum() == 0 and logits.grad[0, 0].abs().sum() > 0


def test_without_a_pair_in_both_orders_there_is_no_order_penalty() -> None:
    logits, seen = torch.tensor([[[2.0, 0.0], [5.0, 0.0]]]), torch.tensor([[True, False]])
    plain, penal = (GenerativeRewardLoss(GenerativeRewardLossConfig(order_penalty=penalty))(logits, seen) for penalty in (0.0, 9.0))
    assert plain.loss.item() == penal.loss.item()
    assert penal.metrics["consistency"] == penal.metrics["position_bias"] == 0.0


def test_metrics_of_two_pairs_by_hand() -> None:
    # Margins (2, 1), right in both orders, and (1, -3), wrong on average and in one order.
    output = GenerativeRewardLoss(GenerativeRewardLossConfig())(torch.tensor([[[2.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [3.0, 0.0]]]))
    assert output.metrics == pytest.approx({"accuracy": 0.5, "consistency": 0.5, "margin": 0.25, "position_bias": (0.5 + 2.0) / 2})


def test_the_order_penalty_weighs_the_square_of_the_bias() -> None:
    # Margins 2 and -1: the bias is 1.5.
    assert (of_pair([2.0, 0.0], [1.0, 0.0], order_penalty=0.5) - of_pair([2.0, 0.0], [1.0, 0.0])).item() == pytest.approx(0.5 * 1.5**2, abs=1e-6)


def test_swapping_the_columns_of_labels_and_orders_changes_nothing() -> None:
    logits = torch.randn(5, 2, 2, generator=torch.Generator().manual_seed(0))
    loss = GenerativeRewardLoss(GenerativeRewardLossConfig(order_penalty=0.25))
    assert loss(logits).loss.item() == pytest.approx(loss(logits.flip(1, 2)).loss.item(), abs=1e-7)


def test_bfloat16_logits_are_compared_in_float32() -> None:
    logits = torch.tensor([[[20.0, 20.125], [20.0, 20.125]]], dtype=torch.bfloat16)
    assert winner_margins(logits).dtype is torch.float32


def test_epsilon_and_penalty_out_of_range_are_refused() -> None:
    for arguments in ({"epsilon": 0.5}, {"epsilon": -0.1}, {"order_penalty": -1.0}):
        with pytest.raises(ValueError, match="must"):
            GenerativeRewardLossConfig(**arguments)


def test_bradley_terry_is_the_same_loss_of_reward_differences() -> None:
    chosen, rejected = torch.tensor([1.7, 0.0]), torch.tensor([-0.4, 1.0])
    output = bradley_terry_loss(chosen, rejected)
    assert output.loss.item() == pytest.approx((PLAIN + math.log1p(math.e)) / 2, abs=1e-6)
    assert output.metrics == {"accuracy": 0.5}
    assert bradley_terry_loss(chosen[:1], rejected[:1], 0.05).loss.item() == pytest.approx(PLAIN + 0.105, abs=1e-6)


def test_language_modelling_is_the_mean_over_tokens_in_float32() -> None:
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    output = language_modeling_loss(logits, torch.tensor([0, 0]))
    assert output.loss.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2, abs=1e-6)
    assert output.metrics["nll"] == output.loss.item()
