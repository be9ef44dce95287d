"""Which adapters are in memory: loaded once, kept until their room is needed, least recently used first, and never let go while in use. No torch here."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from gpu_backend.core import AdapterError
from gpu_backend.engine.metrics import EngineMetrics


class HasBytes(Protocol):
    @property
    def num_bytes(self) -> int: ...


AdapterT = TypeVar("AdapterT", bound=HasBytes)


class NoRoomError(Exception):
    """Adapters in use leave no room for this one."""


@dataclass(slots=True)
class _Resident(Generic[AdapterT]):
    adapter: AdapterT
    num_pins: int = 0


class AdapterStore(Generic[AdapterT]):
    """Safe to use from several threads. `load` runs in the thread that first asks, one at a time, while those who need no loading go on."""

    def __init__(self, load: Callable[[str], AdapterT], max_bytes: int, metrics: EngineMetrics, model: str) -> None:
        self._load = load
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._model = model
        self._resident: OrderedDict[str, _Resident[AdapterT]] = OrderedDict()
        self._lock = threading.Lock()
        self._load_lock = threading.Lock()
        self.num_bytes = 0

    def pin(self, adapter_id: str) -> None:
        """Keep the adapter in memory until `unpin`; loads it first when it is not there. Raises what `load` raises, AdapterError when it can never
        fit, NoRoomError when it cannot fit now."""
        if self.pin_resident(adapter_id):
            return
        with self._load_lock:
            if self.pin_resident(adapter_id):
                return
            adapter = self._load(adapter_id)
            with self._lock:
                self._make_room(adapter.num_bytes)
                self._resident[adapter_id] = _Resident(adapter, num_pins=1)
                self._count_bytes(adapter.num_bytes)
                self._metrics.adapter_loads.labels(self._model).inc()

    def pin_resident(self, adapter_id: str) -> bool:
        """As `pin`, at once, and only when that takes no loading. -> whether it did."""
        with self._lock:
            resident = self._resident.get(adapter_id)
            if resident is None:
                return False
            resident.num_pins += 1
            self._resident.move_to_end(adapter_id)
            return True

    def unpin(self, adapter_id: str) -> None:
        with self._lock:
            resident = self._resident[adapter_id]
            assert resident.num_pins > 0, "an adapter was let go twice"
            resident.num_pins -= 1
            self._resident.move_to_end(adapter_id)

    def get(self, adapter_id: str) -> AdapterT:
        """An adapter that the caller has pinned."""
        with self._lock:
            return self._resident[adapter_id].adapter

    def _make_room(self, num_bytes: int) -> None:
        if num_bytes > self._max_bytes:
            raise AdapterError(f"it takes {num_bytes} bytes of memory, and all adapters together may take {self._max_bytes}")
        idle = [adapter_id for adapter_id, resident in self._resident.items() if resident.num_pins == 0]
        num_missing = self.num_bytes + num_bytes - self._max_bytes
        if num_missing > sum(self._resident[adapter_id].adapter.num_bytes for adapter_id in idle):
            raise NoRoomError
        for adapter_id in idle:
            if self.num_bytes + num_bytes <= self._max_bytes:
                return
            self._count_bytes(-self._resident.pop(adapter_id).adapter.num_bytes)
            self._metrics.adapter_evictions.labels(self._model).inc()

    def _count_bytes(self, change: int) -> None:
        self.num_bytes += change
        self._metrics.adapter_bytes.labels(self._model).set(self.num_bytes)
