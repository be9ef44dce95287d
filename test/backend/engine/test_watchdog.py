"""Overdue means: a step has been running for longer than the limit, or never came back."""

from __future__ import annotations

import pytest

from gpu_backend.engine.watchdog import Watchdog


def test_only_a_running_step_can_be_overdue() -> None:
    now = [0.0]
    watchdog = Watchdog(10.0, clock=lambda: now[0])
    now[0] = 100.0
    assert not watchdog.is_overdue
    with watchdog.step():
        now[0] = 110.0
        assert not watchdog.is_overdue
        now[0] = 110.1
        assert watchdog.is_overdue
    assert not watchdog.is_overdue
    with watchdog.step():
        assert not watchdog.is_overdue


def test_a_step_that_took_its_thread_down_becomes_overdue() -> None:
    now = [0.0]
    watchdog = Watchdog(10.0, clock=lambda: now[0])
    with pytest.raises(ZeroDivisionError), watchdog.step():
        1 / 0  # noqa: B018
    now[0] = 11.0
    assert watchdog.is_overdue
