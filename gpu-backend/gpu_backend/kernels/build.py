"""Compiles the C files of `cpu/` once with the C compiler that comes as the Python package `ziglang`, and keeps the result."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

logger = logging.getLogger(__name__)
SOURCES = Path(__file__).with_name("cpu")
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC")
# What the C files are written for; every other processor uses the torch operators.
_REQUIRED = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16"}
_TIMEOUT_S = 180


def ensure_built(folder: Path) -> Path | None:
    """-> the shared library for this source and this processor, compiled now if need be; None where the processor lacks the
    instructions or no compiler works."""
    if not is_supported():
        return None
    library = folder / f"native-{_fingerprint()}.so"
    if library.exists():
        return library
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            target = Path(work) / library.name
            command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, "-o", str(target), *map(str, sorted(SOURCES.glob("*.c")))]
            environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": work, "ZIG_LOCAL_CACHE_DIR": work}
            outcome = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, env=environment)
            if outcome.returncode != 0 or not target.exists():
                logger.warning("native kernels were not built", extra={"reason": outcome.stderr.strip()[-400:]})
                return None
            target.replace(library)
    except (OSError, subprocess.TimeoutExpired) as error:
        # A folder that cannot be written (weights mounted read-only) is no reason not to serve.
        logger.warning("native kernels were not built", extra={"reason": type(error).__name__})
        return None
    return library


def is_supported() -> bool:
    """Whether this processor has the instructions that the C files are written for."""
    return set(_processor_features().split()) >= _REQUIRED


def _fingerprint() -> str:
    """Changes with the sources, the flags and the processor, since the code is made for exactly this one."""
    facts = [*(file.read_bytes() for file in sorted(SOURCES.iterdir())), " ".join(FLAGS).encode(), platform.machine().encode(), _processor_features().encode()]
    return hashlib.sha256(b"\0".join(facts)).hexdigest()[:16]


def _processor_features() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
