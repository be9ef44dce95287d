"""Settings fail loudly: every message names the setting and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_backend.config import ConfigError, EngineConfig, ServerConfig, load_catalog, load_served_catalog

ROW = """
[[models]]
id = "m"
source = "folder"
path = "weights"
capabilities = ["chat"]
languages = ["en"]
license = "apache-2.0"
owned_by = "us"
created = 1
"""


def catalog(tmp_path: Path, text: str) -> Path:
    (tmp_path / "models.toml").write_text(text)
    return tmp_path / "models.toml"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "example.org"])
def test_no_secret_no_open_door(host: str) -> None:
    with pytest.raises(ConfigError, match="ATTUNE_BACKEND_SECRET"):
        ServerConfig(host=host)
    assert ServerConfig(host=host, secret="0123456789abcdef").host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_secret(host: str) -> None:
    assert ServerConfig(host=host).secret is None


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ConfigError, match="16 characters"):
        ServerConfig(secret="short")


@pytest.mark.parametrize(
    "values",
    [
        {"max_num_sequences": 0},
        {"kv_block_size": 0},
        {"max_num_waiting": 0},
        {"max_step_seconds": 0},
        {"max_tokens_per_step": 4, "max_num_sequences": 8},
        {"adapter_cache_bytes": -1},
    ],
)
def test_impossible_engine_limits_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        EngineConfig(**values)  # type: ignore[arg-type]


def test_the_shipped_catalog_is_valid() -> None:
    chat, judge = load_served_catalog()
    assert (chat.id, chat.source, chat.license) == ("smollm2-135m-instruct", "package", "apache-2.0")
    assert (judge.id, judge.source, judge.base, judge.license) == ("gram-smollm2-135m", "adapter", chat.id, "apache-2.0")


def test_a_row_that_is_not_served_can_be_read_all_the_same(tmp_path: Path) -> None:
    path = catalog(tmp_path, ROW + "served = false\n")
    assert [spec.served for spec in load_catalog(path)] == [False]
    with pytest.raises(ConfigError, match="no row that is served"):
        load_served_catalog(path)


def test_paths_are_relative_to_the_catalog(tmp_path: Path) -> None:
    (spec,) = load_catalog(catalog(tmp_path, ROW))
    assert spec.folder(Path("elsewhere")) == tmp_path / "weights"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no \\[\\[models\\]\\] row"),
        ("[[models", "cannot read"),
        (ROW + ROW, "same id"),
        (ROW.replace('path = "weights"', ""), "needs `path`"),
        (ROW.replace('"folder"', '"ftp"'), "ftp"),
        (ROW.replace('id = "m"', 'id = "../m"'), "plain name"),
        (ROW + "surprise = 1\n", "surprise"),
        (ROW + 'tool_call_format = "xml"\n', "tool_call_format must be hermes"),
    ],
)
def test_broken_catalogs_say_what_is_wrong(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        load_catalog(catalog(tmp_path, text))


def test_a_missing_catalog_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load_catalog(tmp_path / "nowhere.toml")
