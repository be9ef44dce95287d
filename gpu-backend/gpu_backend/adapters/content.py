"""Adapters on disk: one folder each, named by the SHA-256 of its content, so that a name can only ever mean one adapter.

The content of an adapter is one string of bytes: the length of `adapter_model.safetensors` as 8 bytes, little-endian; that file; and
`adapter_config.json`. Its SHA-256 in hexadecimal is the adapter's id. The same bytes are what is sent to store an adapter. No torch here.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpu_backend.core import AdapterError, AdapterNotFoundError

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
MAX_CONTENT_BYTES = 512 * 1024 * 1024
MAX_CONFIG_BYTES = 64 * 1024
MAX_STORED_BYTES = 16 * 1024**3
ID_PATTERN = r"^[0-9a-f]{64}$"
_LENGTH_BYTES = 8
_ABANDONED_AFTER_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class AdapterContent:
    """The two files of an adapter."""

    weights: bytes
    config: bytes

    @property
    def id(self) -> str:
        digest = hashlib.sha256(len(self.weights).to_bytes(_LENGTH_BYTES, "little"))
        digest.update(self.weights)
        digest.update(self.config)
        return digest.hexdigest()

    def framed(self) -> bytes:
        """The bytes that the id is the hash of."""
        return len(self.weights).to_bytes(_LENGTH_BYTES, "little") + self.weights + self.config


def read_content(root: Path, adapter_id: str) -> AdapterContent:
    """Read an adapter and check that its content is what its name says. Raises AdapterNotFoundError or AdapterError."""
    num_bytes = stored_bytes(root, adapter_id)
    if num_bytes is None:
        raise AdapterNotFoundError(adapter_id)
    folder = root / adapter_id
    try:
        content = read_folder(folder)
    except OSError as error:
        raise AdapterNotFoundError(adapter_id) from error
    if content.id != adapter_id:
        raise AdapterError("its files do not have the content that its name is the hash of")
    with suppress(OSError):
        os.utime(folder)
    return content


def read_folder(folder: Path) -> AdapterContent:
    """The two files in a folder of any name. Raises OSError, or AdapterError when they are too large."""
    return AdapterContent(_read(folder / WEIGHTS, MAX_CONTENT_BYTES), _read(folder / CONFIG, MAX_CONFIG_BYTES))


def stored_bytes(root: Path, adapter_id: str) -> int | None:
    """How many bytes the two files of this adapter have; None when it is not here."""
    assert re.fullmatch(ID_PATTERN, adapter_id), "an id is checked before it becomes a path"
    try:
        return sum((root / adapter_id / name).stat().st_size for name in (WEIGHTS, CONFIG))
    except OSError:
        return None


def make_room(root: Path, num_bytes: int) -> None:
    """Remove adapters until this many bytes more fit into MAX_STORED_BYTES, those first that were read least recently, and uploads that died long ago."""
    for folder in root.glob(".incoming-*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > _ABANDONED_AFTER_S:
                shutil.rmtree(folder, ignore_errors=True)
    sizes: list[tuple[float, Path, int]] = []
    for folder in root.iterdir():
        with suppress(OSError):
            if re.fullmatch(ID_PATTERN, folder.name):
                sizes.append((folder.stat().st_mtime, folder, sum(file.stat().st_size for file in folder.iterdir())))
    num_stored = sum(size for _, _, size in sizes)
    for _, folder, size in sorted(sizes):
        if num_stored + num_bytes <= MAX_STORED_BYTES:
            return
        shutil.rmtree(folder, ignore_errors=True)
        num_stored -= size


def _read(path: Path, max_bytes: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise AdapterError(f"{path.name} has more than {max_bytes} bytes")
    return data


class IncomingAdapter:
    """Receives an adapter's content piece by piece into a hidden folder, and gives it its name when the hash is right. End with `close`."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root
        self._folder = Path(tempfile.mkdtemp(prefix=".incoming-", dir=root))
        self._weights = (self._folder / WEIGHTS).open("wb")
        self._digest = hashlib.sha256()
        self._length = bytearray()
        self._num_weights_missing = 0
        self._config = bytearray()
        self._num_bytes = 0

    def write(self, data: bytes) -> None:
        """Raises AdapterError when it is already clear that the content is no adapter."""
        self._num_bytes += len(data)
        if self._num_bytes > MAX_CONTENT_BYTES:
            raise AdapterError(f"it has more than {MAX_CONTENT_BYTES} bytes")
        self._digest.update(data)
        if (num_missing := _LENGTH_BYTES - len(self._length)) > 0:
            self._length += data[:num_missing]
            data = data[num_missing:]
            if len(self._length) < _LENGTH_BYTES:
                return
            self._num_weights_missing = int.from_bytes(self._length, "little")
        of_weights = data[: self._num_weights_missing]
        self._weights.write(of_weights)
        self._num_weights_missing -= len(of_weights)
        self._config += data[len(of_weights) :]
        if len(self._config) > MAX_CONFIG_BYTES:
            raise AdapterError(f"{CONFIG} has more than {MAX_CONFIG_BYTES} bytes")

    def commit(self, adapter_id: str) -> int:
        """Put the adapter in its place. -> bytes of its two files. Raises AdapterError unless its content has this hash."""
        self._weights.close()
        if len(self._length) < _LENGTH_BYTES or self._num_weights_missing > 0 or not self._config:
            raise AdapterError("the content ends early: it must be 8 bytes of length, the weights and the configuration")
        if self._digest.hexdigest() != adapter_id:
            raise AdapterError("the content does not have this hash")
        (self._folder / CONFIG).write_bytes(self._config)
        make_room(self._root, self._num_bytes)
        target = self._root / adapter_id
        target.mkdir(exist_ok=True)
        # One whole file after the other, and only both are an adapter. What they replace is the same, or broke on this disk.
        for name in (WEIGHTS, CONFIG):
            (self._folder / name).replace(target / name)
        return self._num_bytes - _LENGTH_BYTES

    def close(self) -> None:
        """Forget what was not committed."""
        self._weights.close()
        shutil.rmtree(self._folder, ignore_errors=True)
