"""The store's laws with adapters that are only sizes: loaded once, within the budget, never let go while in use."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gpu_backend.core import AdapterError
from gpu_backend.engine.adapter_store import AdapterStore, NoRoomError
from gpu_backend.engine.metrics import EngineMetrics

BACKEND = Path(__file__).resolve().parents[3] / "gpu-backend"


@dataclass(frozen=True)
class Sized:
    num_bytes: int


class Loads:
    """Ids are numbers: how many bytes that adapter takes. Negative ones are broken."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def __call__(self, adapter_id: str) -> Sized:
        self.counts[adapter_id] += 1
        if int(adapter_id) < 0:
            raise AdapterError("broken")
        return Sized(int(adapter_id))


def store_of(loads: Loads, max_bytes: int = 100) -> tuple[AdapterStore[Sized], CollectorRegistry]:
    registry = CollectorRegistry()
    return AdapterStore(loads, max_bytes, EngineMetrics(registry), "m"), registry


def use(store: AdapterStore[Sized], *adapter_ids: str) -> None:
    for adapter_id in adapter_ids:
        store.pin(adapter_id)
        assert store.get(adapter_id).num_bytes == int(adapter_id)
        store.unpin(adapter_id)


def test_importing_the_store_does_not_import_torch() -> None:
    code = "import gpu_backend.engine.adapter_store, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=BACKEND, check=False).returncode == 0


def test_the_least_recently_used_makes_room() -> None:
    store, registry = store_of(loads := Loads())
    use(store, "40", "50", "40")
    use(store, "10")
    assert store.num_bytes == 100 and loads.counts == {"40": 1, "50": 1, "10": 1}
    use(store, "20")
    assert store.num_bytes == 70, "50 was used least recently, and is enough"
    use(store, "40", "10", "50")
    assert loads.counts == {"40": 1, "10": 1, "20": 1, "50": 2}
    samples = {name: registry.get_sample_value(f"attune_adapter_{name}", {"model": "m"}) for name in ("loads_total", "evictions_total", "resident_bytes")}
    assert samples == {"loads_total": 5, "evictions_total": 2, "resident_bytes": 100}


def test_what_is_in_use_is_never_let_go() -> None:
    store, _ = store_of(loads := Loads())
    store.pin("60")
    store.pin("60")
    store.unpin("60")
    use(store, "40")
    with pytest.raises(NoRoomError):
        store.pin("50")
    use(store, "40")
    assert loads.counts["40"] == 1, "making room that is not enough must let nothing go"
    store.unpin("60")
    use(store, "50")
    assert store.num_bytes == 50, "now both had to go: 40, used before 60 was let go, and 60"


def test_one_that_can_never_fit_is_refused_as_such() -> None:
    store, _ = store_of(Loads())
    use(store, "99")
    with pytest.raises(AdapterError, match="101 bytes"):
        store.pin("101")
    assert store.num_bytes == 99


def test_a_broken_one_leaves_nothing_behind() -> None:
    store, _ = store_of(loads := Loads())
    for _ in range(2):
        with pytest.raises(AdapterError, match="broken"):
            store.pin("-1")
    assert loads.counts["-1"] == 2 and store.num_bytes == 0


def test_letting_go_twice_is_a_bug() -> None:
    store, _ = store_of(Loads())
    use(store, "1")
    with pytest.raises(AssertionError, match="twice"):
        store.unpin("1")


def test_concurrent_first_uses_load_once_and_others_do_not_wait() -> None:
    loads, is_loading, may_go_on = Loads(), threading.Event(), threading.Event()

    def slow(adapter_id: str) -> Sized:
        if adapter_id == "7":
            is_loading.set()
            assert may_go_on.wait(10)
        return loads(adapter_id)

    store: AdapterStore[Sized] = AdapterStore(slow, 100, EngineMetrics(CollectorRegistry()), "m")
    use(store, "3")
    threads = [threading.Thread(target=store.pin, args=("7",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert is_loading.wait(10)
    use(store, "3")
    may_go_on.set()
    for thread in threads:
        thread.join(10)
    assert loads.counts["7"] == 1
    for _ in range(4):
        store.unpin("7")
    with pytest.raises(AssertionError):
        store.unpin("7")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 60)), max_size=40))
def test_the_budget_holds_and_pinned_ones_stay(actions: list[tuple[bool, int]]) -> None:
    store, _ = store_of(Loads())
    pinned: Counter[str] = Counter()
    for is_pin, number in actions:
        name = str(number)
        if is_pin:
            try:
                store.pin(name)
                pinned[name] += 1
            except NoRoomError:
                assert sum(int(each) for each in +pinned) + number > 100
        elif pinned[name]:
            store.unpin(name)
            pinned[name] -= 1
        assert store.num_bytes <= 100
        for each in +pinned:
            assert store.get(each).num_bytes == int(each)
