"""A causal LM with a LoRA and a scalar head on the last token: the discriminative reward model that the generative one is compared with.

Shapes: K conversations, H width of the model.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from gpu_backend.data.branched import Branched
from gpu_backend.train.lora_model import LoraModel

_HEAD = "scalar_head.safetensors"


class ScalarModel(nn.Module):
    """The reward of a conversation is a linear function of its last token's state. The head starts at zero."""

    def __init__(self, lora: LoraModel) -> None:
        super().__init__()
        self.lora = lora
        self.head = nn.Parameter(torch.zeros(lora.peft.config.hidden_size))

    def forward(self, conversations: Branched) -> Tensor:
        """(K,) float32: the rewards of the conversations."""
        hidden_KH = self.lora.hidden(*conversations)
        with torch.autocast(hidden_KH.device.type, enabled=False):
            return functional.linear(hidden_KH.float(), self.head.float())

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        """The LoRA as PEFT's two files, and the head beside them."""
        self.lora.save_adapter(folder, dtype)
        save_file({"weight": self.head.detach().contiguous()}, folder / _HEAD)

    @classmethod
    def load(cls, base_folder: Path, folder: Path, dtype: torch.dtype = torch.bfloat16) -> ScalarModel:
        """What `save` wrote, on the base that it was trained on."""
        model = cls(LoraModel.continued(base_folder, folder, dtype=dtype))
        with torch.no_grad():
            model.head.copy_(load_file(folder / _HEAD)["weight"])
        return model
