"""Adapters on disk: a name is the hash of the content, a wrong one is refused, and nothing half-written is ever seen."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from gpu_backend.adapters import content
from gpu_backend.adapters.content import AdapterContent, IncomingAdapter, read_content, stored_bytes
from gpu_backend.core import AdapterError, AdapterNotFoundError
from lora_support import store_content

SMALL = AdapterContent(b"weights", b"{}")


def receive(root: Path, data: bytes, adapter_id: str, piece: int = 3) -> int:
    incoming = IncomingAdapter(root)
    try:
        for start in range(0, len(data), piece):
            incoming.write(data[start : start + piece])
        return incoming.commit(adapter_id)
    finally:
        incoming.close()


def test_the_id_by_hand() -> None:
    assert SMALL.framed() == b"\x07\0\0\0\0\0\0\0weights{}"
    assert SMALL.id == hashlib.sha256(b"\x07\0\0\0\0\0\0\0weights{}").hexdigest()
    assert AdapterContent(b"weight", b"s{}").id != SMALL.id, "the border between the two files counts"


@pytest.mark.parametrize("piece", [1, 7, 8, 9, 100])
def test_what_is_sent_is_what_is_read(tmp_path: Path, piece: int) -> None:
    assert receive(tmp_path, SMALL.framed(), SMALL.id, piece) == 9 == stored_bytes(tmp_path, SMALL.id)
    assert read_content(tmp_path, SMALL.id) == SMALL
    assert [path.name for path in tmp_path.iterdir()] == [SMALL.id]


def test_sending_again_mends_what_broke_on_the_disk(tmp_path: Path) -> None:
    receive(tmp_path, SMALL.framed(), SMALL.id)
    (tmp_path / SMALL.id / content.WEIGHTS).write_bytes(b"weightz")
    with pytest.raises(AdapterError, match="hash"):
        read_content(tmp_path, SMALL.id)
    receive(tmp_path, SMALL.framed(), SMALL.id)
    assert read_content(tmp_path, SMALL.id) == SMALL
    assert [path.name for path in tmp_path.iterdir()] == [SMALL.id]


@pytest.mark.parametrize("data", [b"", b"\x07\0", SMALL.framed()[:12], SMALL.framed()[:15], SMALL.framed() + b" ", b"\xff" * 8 + b"weights{}"])
def test_other_content_than_announced_is_not_stored(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(AdapterError, match=r"ends early|does not have this hash"):
        receive(tmp_path, data, SMALL.id)
    assert list(tmp_path.iterdir()) == [] and stored_bytes(tmp_path, SMALL.id) is None


def test_sizes_are_bounded_while_sending_and_while_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large_config = AdapterContent(b"w", b" " * (content.MAX_CONFIG_BYTES + 1))
    with pytest.raises(AdapterError, match=r"adapter_config\.json has more"):
        receive(tmp_path, large_config.framed(), large_config.id, 10_000)
    with pytest.raises(AdapterError, match=r"adapter_config\.json has more"):
        read_content(tmp_path, store_content(tmp_path, large_config))
    monkeypatch.setattr(content, "MAX_CONTENT_BYTES", 20)
    large = AdapterContent(b"w" * 21, b"{}")
    with pytest.raises(AdapterError, match="20 bytes"):
        receive(tmp_path, large.framed(), large.id)
    with pytest.raises(AdapterError, match="20 bytes"):
        read_content(tmp_path, store_content(tmp_path, large))


def test_the_folder_stays_within_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of 9 bytes, of which the second was read last, and room for 27 and the 17 that arrive: two must go."""
    stored = [AdapterContent(f"weight{index}".encode(), b"{}") for index in range(3)]
    for index, each in enumerate(stored):
        receive(tmp_path, each.framed(), each.id)
        os.utime(tmp_path / each.id, (index, index))
    read_content(tmp_path, stored[1].id)
    abandoned = tmp_path / ".incoming-abandoned"
    abandoned.mkdir()
    os.utime(abandoned, (0, 0))
    monkeypatch.setattr(content, "MAX_STORED_BYTES", 27)
    receive(tmp_path, SMALL.framed(), SMALL.id)
    assert {path.name for path in tmp_path.iterdir()} == {stored[1].id, SMALL.id}


def test_an_absent_or_half_adapter_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(AdapterNotFoundError):
        read_content(tmp_path, SMALL.id)
    store_content(tmp_path, SMALL)
    (tmp_path / SMALL.id / content.CONFIG).unlink()
    with pytest.raises(AdapterNotFoundError):
        read_content(tmp_path, SMALL.id)


@pytest.mark.parametrize("adapter_id", ["../x", "", "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n"])
def test_what_is_no_hash_never_becomes_a_path(tmp_path: Path, adapter_id: str) -> None:
    with pytest.raises(AssertionError):
        stored_bytes(tmp_path, adapter_id)


def test_many_uploads_of_one_adapter_at_once(tmp_path: Path) -> None:
    failures: list[Exception] = []

    def upload() -> None:
        try:
            receive(tmp_path, SMALL.framed(), SMALL.id, 1)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=upload) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert failures == [] and read_content(tmp_path, SMALL.id) == SMALL
    assert [path.name for path in tmp_path.iterdir()] == [SMALL.id]
