"""llama.cpp as a rival: installs it on first use, fetches the GGUF file of the same weights, and asks a child process for measurements."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from gpu_backend.config import load_catalog
from harness.engines import models_dir

_RIVALS = Path(__file__).resolve().parent.parent / "rivals"


class RivalUnavailableError(RuntimeError):
    """Why llama.cpp cannot run here."""


class LlamaCpp:
    """A process of `rivals/llama.mjs`. Idle between questions."""

    def __init__(self, *, num_threads: int, max_batch: int) -> None:
        _install()
        command = [_node(), str(_RIVALS / "llama.mjs"), str(_weights()), str(num_threads), str(max_batch)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.about = self._answer()

    def ask(self, way: str, **parameters: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"way": way, **parameters}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        """Lines that are no JSON objects are the library talking."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        _, errors = self._process.communicate()
        raise RivalUnavailableError((errors.strip().splitlines() or ["it ended without a word"])[-1])


def _install() -> None:
    """`npm ci` when the lock file is not the one that was installed from. Its install scripts would compile, so they do not run."""
    stamp = _RIVALS / "node_modules" / ".attune-lock"
    wanted = hashlib.sha256((_RIVALS / "package-lock.json").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    print("installing bench/rivals", file=sys.stderr)
    outcome = subprocess.run([*_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=_RIVALS, capture_output=True, text=True, check=False)
    if outcome.returncode != 0:
        raise RivalUnavailableError("npm could not install bench/rivals: " + (outcome.stderr.strip().splitlines() or ["no message"])[-1])
    stamp.write_text(wanted, encoding="utf-8")


def _weights() -> Path:
    """The file that our own weights were converted from, checked by the same SHA-256."""
    spec = load_catalog()[0]
    assert spec.package is not None and spec.file is not None
    folder = models_dir().parent / "bench"
    target = folder / Path(spec.file).name
    if target.exists() and _sha256(target) == spec.sha256:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    print(f"downloading {spec.package}", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", "--dest", work, spec.package]
        outcome = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(work).glob("*.whl"))
        if outcome.returncode != 0 or len(wheels) != 1:
            raise RivalUnavailableError(f"pip could not download {spec.package}: " + (outcome.stderr.strip().splitlines() or ["no message"])[-1])
        with zipfile.ZipFile(wheels[0]) as archive:
            extracted = Path(archive.extract(spec.file, work))
        if _sha256(extracted) != spec.sha256:
            raise RivalUnavailableError(f"{spec.package} holds another file than models.toml says")
        extracted.replace(target)
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _node() -> str:
    """The Node that runs the bench, else the one on the PATH."""
    found = os.environ.get("npm_node_execpath") or shutil.which("node")  # noqa: SIM112 -- npm's own spelling
    if found is None:
        raise RivalUnavailableError("Node is not on the PATH")
    return found


def _npm() -> list[str]:
    script = os.environ.get("npm_execpath", "")  # noqa: SIM112 -- npm's own spelling
    return [_node(), script] if script.endswith((".js", ".cjs")) else [shutil.which("npm") or "npm"]
