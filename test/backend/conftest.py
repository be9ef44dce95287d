"""Shared fixtures: the embedded model as `npm test` prepared it, and the contract's error codes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
EMBEDDED = "smollm2-135m-instruct"


@pytest.fixture(scope="session")
def models_dir() -> Path:
    return Path(os.environ.get("ATTUNE_MODELS_DIR", REPOSITORY / ".attune" / "models"))


@pytest.fixture(scope="session")
def embedded_folder(models_dir: Path) -> Path:
    folder = models_dir / EMBEDDED
    assert (folder / "model.safetensors").exists(), f"{folder} is not prepared: run npm test, or python -m gpu_backend.prepare --models-dir {models_dir}"
    return folder


@pytest.fixture(scope="session")
def error_codes() -> dict[str, dict[str, Any]]:
    codes: dict[str, dict[str, Any]] = json.loads((REPOSITORY / "test" / "contract" / "errors.json").read_text())["codes"]
    return codes
