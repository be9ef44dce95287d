"""Imports point one way only, the scheduler knows no tensors, and the serving path needs neither transformers nor training code."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import gpu_backend

PACKAGE = Path(gpu_backend.__file__).parent
LEAVES = {"core", "config", "tokenizer", "chat_template", "logs", "kernels"}
MIDDLE = {"decoding", "adapters", "losses", "selection", "data"}
# Part -> the parts it may import, besides itself.
ALLOWED: dict[str, set[str]] = {
    "core": set(),
    "config": set(),
    "logs": set(),
    "kernels": set(),
    "ranking": set(),
    "tokenizer": {"core", "config"},
    "chat_template": {"core", "config", "tokenizer"},
    "layers": LEAVES,
    "models": LEAVES | {"layers"},
    "decoding": LEAVES | {"layers", "models"},
    "adapters": LEAVES | {"layers", "models"},
    "selection": LEAVES | {"layers", "models"},
    "data": LEAVES | {"layers", "models"},
    "losses": LEAVES,
    "engine": LEAVES | MIDDLE | {"layers", "models"},
    "server": (LEAVES | MIDDLE | {"layers", "models", "engine", "ranking"}) - {"losses", "data"},
    "train": LEAVES | MIDDLE | {"layers", "models", "engine", "ranking"},
    "evals": (LEAVES | MIDDLE | {"layers", "models", "engine", "train"}) - {"losses"},
    "recipes": LEAVES | MIDDLE | {"layers", "models", "engine", "ranking", "train"},
    "prepare": LEAVES | {"adapters", "models"},
    "__main__": LEAVES | {"server", "engine"},
    "__init__": set(),
}
FORBIDDEN_MODULES = {
    "engine/scheduler.py": "torch",
    "engine/block_manager.py": "torch",
    "engine/sequence.py": "torch",
    "core.py": "torch",
    "engine/adapter_store.py": "torch",
    "adapters/content.py": "torch",
}


def imported_by(source: str) -> set[str]:
    """Dotted names of all imports, those inside functions and TYPE_CHECKING too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they go"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def violations(relative: str, source: str) -> list[str]:
    part = relative.split("/")[0].removesuffix(".py")
    found = []
    for name in imported_by(source):
        pieces = name.split(".")
        if pieces[0] == "gpu_backend" and len(pieces) > 1 and pieces[1] != part and pieces[1] not in ALLOWED[part]:
            found.append(f"{relative} imports {name}")
        if pieces[0] == FORBIDDEN_MODULES.get(relative):
            found.append(f"{relative} imports {name}")
    return found


def test_imports_point_one_way() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 30
    assert [line for file in files for line in violations(file.relative_to(PACKAGE).as_posix(), file.read_text())] == []


def test_planted_violations_are_found() -> None:
    planted = {
        "layers/attention.py": "from gpu_backend.engine.engine import Engine",
        "server/app.py": "def f():\n    import gpu_backend.losses.dpo",
        "models/causal_lm/model.py": "from gpu_backend.decoding import sampling",
        "core.py": "from gpu_backend import models",
        "engine/scheduler.py": "import torch",
    }
    for relative, source in planted.items():
        assert violations(relative, source), relative


def test_every_module_can_be_imported() -> None:
    names = [module.name for module in pkgutil.walk_packages(gpu_backend.__path__, "gpu_backend.") if not module.name.endswith("__main__")]
    assert len(names) > 30
    for name in names:
        importlib.import_module(name)


def test_the_serving_path_imports_neither_transformers_nor_training_code() -> None:
    code = (
        "import sys, gpu_backend.__main__, gpu_backend.server.served_model, gpu_backend.engine.async_engine\n"
        "heavy = ('transformers', 'peft', 'accelerate', 'gpu_backend.train', 'gpu_backend.evals', 'gpu_backend.losses')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_files_stay_readable() -> None:
    lengths = {file.relative_to(PACKAGE).as_posix(): len(file.read_text().splitlines()) for file in PACKAGE.rglob("*.py")}
    assert max(lengths.values()) <= 500, lengths
    assert sorted(lengths.values())[len(lengths) // 2] <= 120
    missing = [str(file) for file in PACKAGE.rglob("*.py") if not file.read_text().startswith('"""')]
    assert missing == []
