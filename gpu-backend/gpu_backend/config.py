"""Settings of a backend process and the rows of models.toml: frozen records that check themselves."""

from __future__ import annotations

import ipaddress
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Source = Literal["package", "folder", "hub", "adapter"]
DEFAULT_CATALOG = Path(__file__).resolve().parent.parent / "models.toml"


class ConfigError(ValueError):
    """A setting that cannot work; the message names it and says what to do."""


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Limits of one engine. Counts are tokens unless named otherwise; `adapter_cache_bytes` bounds the memory of loaded adapters, used or not.

    A step that takes longer than `max_step_seconds` is taken to hang. `decode_graphs` matters on CUDA devices only.
    """

    max_num_sequences: int = 48
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
    decode_graphs: bool = True
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
class JudgeSpec:
    """How a model judges answers: the table `judge` of its row.

    `template` is a file beside the weights, `max_tokens` bounds its prompts. A probability is sigmoid(logit difference / `temperature`). `anchor` is the
    answer that single answers are compared with. Texts lose the template's own frame `markers`. `label_exit` is the folder of one, beside models.toml.
    """

    template: str
    sha256: str
    labels: tuple[str, str] = ("A", "B")
    markers: tuple[str, ...] = ()
    max_tokens: int = 1024
    temperature: float = 1.0
    anchor: str = "I don't know."
    label_exit: str | None = None

    def __post_init__(self) -> None:
        if Path(self.template).name != self.template:
            raise ConfigError(f"models.toml: judge.template must be the name of a file beside the weights, not {self.template!r}")
        if len(self.labels) != 2:
            raise ConfigError(f"models.toml: judge.labels must be two texts, got {self.labels}")
        if any(len(marker) < 2 for marker in self.markers):
            raise ConfigError("models.toml: judge.markers must have at least two characters each")
        if self.max_tokens < 128:
            raise ConfigError(f"models.toml: judge.max_tokens must be at least 128, got {self.max_tokens}")
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"models.toml: judge.temperature must be above 0, got {self.temperature}")


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One row of models.toml. A row that is not `served` can be trained and measured only. `exit_adapter` is the folder of one, beside this file."""

    id: str
    source: Source
    capabilities: tuple[str, ...]
    languages: tuple[str, ...]
    license: str
    owned_by: str
    created: int
    served: bool = True
    shutdown_date: str | None = None
    tool_call_format: Literal["hermes"] | None = None
    judge: JudgeSpec | None = None
    base: str | None = None
    exit_adapter: str | None = None
    package: str | None = None
    file: str | None = None
    sha256: str | None = None
    path: str | None = None
    hub_id: str | None = None
    revision: str | None = None
    base_folder: Path = field(default=Path())

    def __post_init__(self) -> None:
        needed = {"package": ("package", "file", "sha256"), "folder": ("path",), "hub": ("hub_id", "revision"), "adapter": ("base", "path")}
        if self.source not in needed:
            raise ConfigError(f"models.toml: {self.id}: source must be package, folder, hub or adapter, not {self.source!r}")
        for name in needed[self.source]:
            if getattr(self, name) is None:
                raise ConfigError(f"models.toml: {self.id}: source {self.source!r} needs `{name}`")
        if ("reward" in self.capabilities) != (self.judge is not None):
            raise ConfigError(f"models.toml: {self.id}: the capability `reward` and the table `judge` go together")
        if self.exit_adapter is not None and self.source == "adapter":
            raise ConfigError(f"models.toml: {self.id}: an exit adapter belongs to the row of its base, {self.base}")
        if self.tool_call_format not in (None, "hermes"):
            raise ConfigError(f"models.toml: {self.id}: tool_call_format must be hermes, not {self.tool_call_format!r}")
        if not self.id or "/" in self.id or self.id.startswith("."):
            raise ConfigError(f"models.toml: id {self.id!r} must be a plain name without slashes")

    @property
    def exit_adapter_folder(self) -> Path | None:
        return None if self.exit_adapter is None else (self.base_folder / self.exit_adapter).resolve()

    @property
    def label_exit_folder(self) -> Path | None:
        return None if self.judge is None or self.judge.label_exit is None else (self.base_folder / self.judge.label_exit).resolve()

    def folder(self, models_dir: Path) -> Path:
        """Where the prepared files of this model lie: a folder of safetensors, or a single GGUF file."""
        if self.source in ("folder", "adapter"):
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


def load_served_catalog(path: Path = DEFAULT_CATALOG) -> list[ModelSpec]:
    """The rows of models.toml that are served. Raises ConfigError, also when there is none."""
    specs = [spec for spec in load_catalog(path) if spec.served]
    if not specs:
        raise ConfigError(f"{path} has no row that is served")
    return specs


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
    bases = {spec.id for spec in specs if spec.source != "adapter"}
    for spec in specs:
        if spec.base is not None and spec.base not in bases:
            raise ConfigError(f"models.toml: {spec.id}: `base` {spec.base!r} is no model with weights of its own")
    return specs


def find_judge(path: Path, model_id: str) -> tuple[ModelSpec, ModelSpec]:
    """The row of a model that judges, and the row of its weights, which may be the same. Raises ConfigError."""
    specs = {spec.id: spec for spec in load_catalog(path)}
    spec = specs.get(model_id)
    if spec is None or spec.judge is None:
        raise ConfigError(f"{path} has no row {model_id!r} with a table `judge`")
    return spec, spec if spec.base is None else specs[spec.base]


def _spec_of(row: dict[str, Any], base_folder: Path) -> ModelSpec:
    try:
        judge = JudgeSpec(**_with_tuples(row["judge"])) if "judge" in row else None
        return ModelSpec(**{**_with_tuples(row), "judge": judge, "base_folder": base_folder})
    except TypeError as error:
        raise ConfigError(f"models.toml: {row.get('id', 'a row without id')}: {error}") from error


def _with_tuples(table: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
