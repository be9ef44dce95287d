"""Settings of a backend process and the rows of models.toml: frozen records that check themselves."""

from __future__ import annotations

import ipaddress
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Source = Literal["package", "folder", "hub"]
DEFAULT_CATALOG = Path(__file__).resolve().parent.parent / "models.toml"


class ConfigError(ValueError):
    """A setting that cannot work; the message names it and says what to do."""


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Limits of one engine. Counts are tokens unless named otherwise; `adapter_cache_bytes` bounds the memory of loaded adapters, used or not.

    A step that takes longer than `max_step_seconds` is taken to hang.
    """

    max_num_sequences: int = 32
    max_num_waiting: int = 256
    max_num_waiting_per_tenant: int = 128
    max_waiting_tokens: int = 262_144
    max_tokens_per_step: int = 512
    max_step_seconds: float = 60.0
    kv_block_size: int = 16
    kv_cache_tokens: int = 16_384
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    weight_dtype: Literal["auto", "int8"] = "auto"
    device: str = "auto"
    reuses_prefixes: bool = True
    adapter_cache_bytes: int = 1024**3

    def __post_init__(self) -> None:
        for name in ("max_num_sequences", "max_num_waiting", "max_num_waiting_per_tenant", "max_waiting_tokens", "max_tokens_per_step", "kv_block_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.adapter_cache_bytes < 0:
            raise ConfigError(f"adapter_cache_bytes must not be negative, got {self.adapter_cache_bytes}")
        if not self.max_step_seconds > 0:
            raise ConfigError(f"max_step_seconds must be above 0, got {self.max_step_seconds}")
        if self.max_tokens_per_step < self.max_num_sequences:
            raise ConfigError(f"max_tokens_per_step ({self.max_tokens_per_step}) must be at least max_num_sequences ({self.max_num_sequences})")

    @property
    def num_kv_blocks(self) -> int:
        return self.kv_cache_tokens // self.kv_block_size


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Where the process listens, who may call it, and where it keeps the adapters that it is sent; None means that it takes none."""

    host: str = "127.0.0.1"
    port: int = 8788
    secret: str | None = None
    drain_seconds: int = 20
    adapters_dir: Path | None = None

    def __post_init__(self) -> None:
        if not 0 < self.port < 65_536:
            raise ConfigError(f"port must be between 1 and 65535, got {self.port}")
        if self.secret is not None and len(self.secret) < 16:
            raise ConfigError("ATTUNE_BACKEND_SECRET must have at least 16 characters")
        if self.secret is None and not is_loopback(self.host):
            raise ConfigError(f"refusing to listen on {self.host} without a secret: set ATTUNE_BACKEND_SECRET, or use --host 127.0.0.1")


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One row of models.toml."""

    id: str
    source: Source
    capabilities: tuple[str, ...]
    languages: tuple[str, ...]
    license: str
    owned_by: str
    created: int
    shutdown_date: str | None = None
    tool_call_format: Literal["hermes"] | None = None
    package: str | None = None
    file: str | None = None
    sha256: str | None = None
    path: str | None = None
    hub_id: str | None = None
    revision: str | None = None
    base_folder: Path = field(default=Path())

    def __post_init__(self) -> None:
        needed = {"package": ("package", "file", "sha256"), "folder": ("path",), "hub": ("hub_id", "revision")}
        if self.source not in needed:
            raise ConfigError(f"models.toml: {self.id}: source must be package, folder or hub, not {self.source!r}")
        for name in needed[self.source]:
            if getattr(self, name) is None:
                raise ConfigError(f"models.toml: {self.id}: source {self.source!r} needs `{name}`")
        if self.tool_call_format not in (None, "hermes"):
            raise ConfigError(f"models.toml: {self.id}: tool_call_format must be hermes, not {self.tool_call_format!r}")
        if not self.id or "/" in self.id or self.id.startswith("."):
            raise ConfigError(f"models.toml: id {self.id!r} must be a plain name without slashes")

    def folder(self, models_dir: Path) -> Path:
        """Where the prepared files of this model lie: a folder of safetensors, or a single GGUF file."""
        if self.source == "folder":
            assert self.path is not None
            return (self.base_folder / self.path).resolve()
        return models_dir / self.id


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_catalog(path: Path = DEFAULT_CATALOG) -> list[ModelSpec]:
    """Read models.toml. Raises ConfigError with the row and key at fault."""
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8")).get("models", [])
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    specs = [_spec_of(row, path.parent) for row in rows]
    if not specs:
        raise ConfigError(f"{path} has no [[models]] row")
    ids = [spec.id for spec in specs]
    if len(set(ids)) != len(ids):
        raise ConfigError(f"{path}: two rows have the same id")
    return specs


def _spec_of(row: dict[str, Any], base_folder: Path) -> ModelSpec:
    lists = {name: tuple(row[name]) for name in ("capabilities", "languages") if isinstance(row.get(name), list)}
    try:
        return ModelSpec(**{**row, **lists, "base_folder": base_folder})
    except TypeError as error:
        raise ConfigError(f"models.toml: {row.get('id', 'a row without id')}: {error}") from error
