"""Each test of training begins without accelerate's state, which belongs to the process and keeps the precision of whoever was first."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _own_accelerator() -> None:
    state = pytest.importorskip("accelerate.state", reason="tests of training need accelerate: requirements/test.txt")
    state.AcceleratorState._reset_state(reset_partial_state=True)
