"""A frozen causal LM with a trainable LoRA (Hu et al. 2021, arXiv 2106.09685), as one module that gives logits at chosen positions.

Shapes: B sequences padded at the right to T tokens, K chosen positions, V vocabulary, H width of the model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM

from gpu_backend.data.branched import Sequences

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class LoraSettings:
    rank: int
    alpha: int


class LoraModel(nn.Module):
    """Logits of a decoder at chosen positions."""

    def __init__(self, peft_model: PeftModel) -> None:
        super().__init__()
        self.peft = peft_model

    @classmethod
    def from_folder(cls, folder: Path, settings: LoraSettings, *, seed: int, dtype: torch.dtype = torch.bfloat16) -> LoraModel:
        """The base in `dtype`, frozen; A and B in float32, B zero, so that nothing changes before the first step."""
        # PyTorch's fused attention takes twice as long on a CPU as the products that it is made of, at the lengths that are trained there.
        attention = "sdpa" if torch.cuda.is_available() else "eager"
        return cls.around(AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=attention), settings, seed=seed)

    @classmethod
    def continued(cls, folder: Path, adapter: Path, *, dtype: torch.dtype = torch.bfloat16) -> LoraModel:
        """The base with an adapter that was saved before, ready to be trained further. Raises OSError, or ValueError when it is not of this kind."""
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        if sorted(config.get("target_modules") or []) != sorted(PROJECTIONS):
            raise ValueError(f"{adapter} must have the target_modules {', '.join(PROJECTIONS)}")
        model = cls.from_folder(folder, LoraSettings(rank=config["r"], alpha=config["lora_alpha"]), seed=0, dtype=dtype)
        state = load_file(adapter / "adapter_model.safetensors")
        if state.keys() != model.adapter_state().keys():
            raise ValueError(f"{adapter} does not have the tensors of an adapter of this base")
        model.load_adapter_state(state)
        return model

    @classmethod
    def around(cls, base: nn.Module, settings: LoraSettings, *, seed: int) -> LoraModel:
        torch.manual_seed(seed)
        config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=list(PROJECTIONS), task_type="CAUSAL_LM")
        model = get_peft_model(base, config)
        model.peft_config["default"].base_model_name_or_path = ""
        return cls(model)

    def forward(self, sequences: Sequences, rows_K: Tensor, places_K: Tensor, token_ids: tuple[int, ...] | None = None) -> Tensor:
        """Logits after these places in float32: (K, V), or (K, len(token_ids)) for a few tokens, whose products are then float32 too."""
        hidden_KH = self.hidden(sequences, rows_K, places_K)
        weight_VH: Tensor = self._causal_lm.lm_head.weight
        if token_ids is None:
            return functional.linear(hidden_KH.to(weight_VH.dtype), weight_VH).float()
        with torch.autocast(hidden_KH.device.type, enabled=False):
            return functional.linear(hidden_KH.float(), weight_VH[list(token_ids)].float())

    def hidden(self, sequences: Sequences, rows_K: Tensor, places_K: Tensor) -> Tensor:
        """(K, H): the decoder's last states at these places, after its final norm."""
        ids_BT, positions_BT, sees_BTT = sequences
        dtype = self._causal_lm.lm_head.weight.dtype
        mask_B1TT = torch.zeros(sees_BTT.shape, dtype=dtype, device=ids_BT.device).masked_fill(~sees_BTT, torch.finfo(dtype).min)[:, None]
        states = self._causal_lm.model(input_ids=ids_BT, position_ids=positions_BT, attention_mask=mask_B1TT, use_cache=False)
        hidden_BTH: Tensor = states.last_hidden_state
        return hidden_BTH[rows_K, places_K]

    @property
    def _causal_lm(self) -> Any:
        """The model inside PEFT's wrapper, whose parts have no types."""
        return self.peft.base_model.model

    def adapter_state(self) -> dict[str, Tensor]:
        """A and B under PEFT's file names."""
        return {name: tensor.detach().contiguous() for name, tensor in get_peft_model_state_dict(self.peft).items()}

    def load_adapter_state(self, state: dict[str, Tensor]) -> None:
        set_peft_model_state_dict(self.peft, state)

    def save_adapter(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        """PEFT's two files, as `PeftModel.from_pretrained` and the backend read them."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.to(dtype) for name, tensor in self.adapter_state().items()}, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        config: Any = self.peft.peft_config["default"]
        kept = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": config.base_model_name_or_path,
            "inference_mode": True,
            "r": config.r,
            "lora_alpha": config.lora_alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": sorted(config.target_modules),
        }
        (folder / "adapter_config.json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
