"""Starts the backend: `python -m gpu_backend --models-dir DIR`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from prometheus_client import CollectorRegistry

from gpu_backend.config import DEFAULT_CATALOG, ConfigError, EngineConfig, ServerConfig, load_served_catalog
from gpu_backend.logs import configure_logging
from gpu_backend.server.app import create_app

if TYPE_CHECKING:
    from gpu_backend.server.served_model import ServedModel


def main() -> int:
    options = _parse()
    # Before torch loads OpenMP, whose threads spin for milliseconds when they wait for each other: see docs/experiments.md.
    os.environ.setdefault("GOMP_SPINCOUNT", "4000")
    configure_logging()
    try:
        secret = os.environ.get("ATTUNE_BACKEND_SECRET") or None
        adapters_dir = options.adapters_dir or options.models_dir / ".adapters"
        server = ServerConfig(host=options.host, port=options.port, secret=secret, drain_seconds=options.drain_seconds, adapters_dir=adapters_dir)
        engine = _engine_config(options)
        specs = load_served_catalog(options.catalog)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2

    def load(registry: CollectorRegistry) -> list[ServedModel]:
        # Imported here, in the loading thread: torch takes seconds to import, and /live should not wait for it.
        from gpu_backend.engine.metrics import EngineMetrics
        from gpu_backend.server.loading import load_served_models

        return load_served_models(specs, options.models_dir, engine, EngineMetrics(registry), adapters_dir)

    app = create_app(server, load, on_load_failure=lambda: setattr(process, "should_exit", True))
    settings = uvicorn.Config(app, host=server.host, port=server.port, log_config=None, access_log=False, timeout_graceful_shutdown=server.drain_seconds)
    process = uvicorn.Server(settings)
    process.run()
    return 1 if app.state.server.status == "failed" else 0


def _engine_config(options: argparse.Namespace) -> EngineConfig:
    return EngineConfig(
        max_num_sequences=options.max_num_sequences,
        kv_cache_tokens=options.kv_cache_tokens,
        dtype=options.dtype,
        weight_dtype=options.weight_dtype,
        device=options.device,
        adapter_cache_bytes=options.adapter_cache_bytes,
        max_step_seconds=options.max_step_seconds,
        decode_graphs=options.decode_graphs,
    )


def _parse() -> argparse.Namespace:
    server, engine = ServerConfig(), EngineConfig()
    parser = argparse.ArgumentParser(prog="python -m gpu_backend", description="Attune's GPU backend. The shared secret is read from ATTUNE_BACKEND_SECRET.")
    parser.add_argument("--host", default=server.host)
    parser.add_argument("--port", type=int, default=server.port)
    parser.add_argument("--models-dir", type=Path, required=True, help="where `python -m gpu_backend.prepare` put the models")
    parser.add_argument("--catalog", type=Path, default=DEFAULT_CATALOG, help="the models.toml to serve")
    parser.add_argument("--device", default=engine.device, help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default=engine.dtype)
    parser.add_argument(
        "--weight-dtype", choices=("auto", "int8"), default=engine.weight_dtype, help="int8 rounds weights that have more bits than 8; CPU only"
    )
    parser.add_argument("--max-num-sequences", type=int, default=engine.max_num_sequences, help="how many answers are computed at once")
    parser.add_argument("--kv-cache-tokens", type=int, default=engine.kv_cache_tokens, help="tokens of context kept for all of them together")
    parser.add_argument("--adapters-dir", type=Path, help="where adapters are kept that this backend is sent; .adapters in the models' folder by default")
    parser.add_argument("--adapter-cache-bytes", type=int, default=engine.adapter_cache_bytes, help="memory for loaded adapters, of each model")
    parser.add_argument("--max-step-seconds", type=float, default=engine.max_step_seconds, help="a step that takes longer is taken to hang")
    parser.add_argument(
        "--decode-graphs", action=argparse.BooleanOptionalAction, default=engine.decode_graphs, help="record decoding steps as CUDA graphs; CUDA devices only"
    )
    parser.add_argument("--drain-seconds", type=int, default=server.drain_seconds, help="how long SIGTERM waits for running answers")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
