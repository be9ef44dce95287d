"""What tells one version of a model's weights from another, in answers and beside parts that were trained on them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gpu_backend.config import JudgeSpec, ModelSpec


def revision_of(spec: ModelSpec, path: Path) -> str:
    """Changes whenever the weights may have changed: the declared checksum or revision, else sizes and times of the files."""
    if spec.sha256 is not None:
        return spec.sha256[:12]
    if spec.revision is not None:
        return spec.revision[:12]
    files = sorted([path] if path.is_file() else path.glob("*.safetensors"))
    facts = "".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns};" for file in files)
    return hashlib.sha256(facts.encode()).hexdigest()[:12]


def judge_revision(judge: JudgeSpec, *revisions: str) -> str:
    """Of everything that a judge's verdict comes from: its weights, those of the base before those of the adapter, and its template."""
    return "/".join((*revisions, judge.sha256[:12]))
