"""How every bench in Python reports: a line per row for people, and with --json one object on the last line."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from harness.quiet import be_the_only_bench


def settings_of(**settings: Any) -> dict[str, Any]:
    """Call before measuring: waits for other benches, and notes how busy the machine was and how its threads wait."""
    be_the_only_bench()
    return {
        **settings,
        "spin_count": os.environ.get("GOMP_SPINCOUNT", "default"),
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def report(name: str, settings: dict[str, Any], rows: list[dict[str, Any]], ratios: dict[str, float]) -> None:
    """`rows` are raw measurements, `ratios` the figures that are promised."""
    for row in rows:
        print("  ".join(f"{key}={value}" for key, value in row.items()))
    for ratio, value in ratios.items():
        print(f"{ratio}: {value}")
    if "--json" not in sys.argv:
        return
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True).stdout.strip()
    machine = f"{_processor()}, {os.cpu_count()} cores, {_memory_gib()} GiB, Python {platform.python_version()}, torch {torch.__version__}"
    print(json.dumps({"name": name, "commit": commit, "machine": machine, "settings": settings, "rows": rows, "ratios": ratios}))


def percentile(values: list[float], percent: float) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory_gib() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
