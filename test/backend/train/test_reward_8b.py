"""The configuration of the recipe for a model of 8 billion weights."""

from __future__ import annotations

import pytest

pytest.importorskip("peft", reason="tests of training need peft and accelerate: requirements/test.txt")

from gpu_backend.recipes.reward_8b import dry_run, measure_size


def test_the_shape_is_that_of_qwen3_8b() -> None:
    size = measure_size()
    # Embeddings and head, 2 * 151,936 * 4,096; 36 layers of 192,946,432; the last norm.
    assert size.num_base == 8_190_735_360
    # Rank 64 times inputs and outputs of the seven projections, 75,776 a layer.
    assert size.num_trained == 36 * 64 * 75_776
    assert size.total_bytes < 78e9, "fits a card of 80 GB"


def test_the_dry_run_goes_through_both_stages(capsys: pytest.CaptureFixture[str]) -> None:
    dry_run()
    printed = capsys.readouterr().out
    assert printed.count("step 1/1") == 2 and "nll" in printed and "accuracy" in printed and printed.endswith("the configuration holds\n")
