"""Brings weight matrices into the order of `cpu/matmul.h`, and back into float32 for the twins that check it.

Shapes: O outputs, I inputs, S = ceil(O/16) strips of 16 outputs, K = I/32 blocks of 32 inputs. A packed matrix is one uint8 tensor (S, K, record size);
the record size tells the kind. Outputs beyond O in the last strip are zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

LANES, BLOCK = 16, 32
# In the order of the C enumeration.
KINDS = {320: "q4_1", 544: "q8_0", 1024: "bfloat16"}
Q4_1_BLOCK_BYTES, Q8_0_BLOCK_BYTES = 20, 34


def kind_index(records: Tensor) -> int:
    return list(KINDS).index(records.shape[-1])


def pack_bfloat16(weight_OI: Tensor) -> Tensor:
    """Any weight, rounded to bfloat16 where it is not."""
    return _pairs(weight_OI.to(torch.bfloat16).contiguous()).view(torch.uint8).flatten(2)


def pack_pairs(weight_OR: Tensor) -> Tensor:
    """The B of a low-rank update in bfloat16, as `cpu/low_rank.h` reads it: (O, R) -> (O/16, pairs of R, 64 bytes); O is a multiple of 16."""
    padded = functional.pad(weight_OR.to(torch.bfloat16), (0, weight_OR.shape[1] % 2))
    return padded.view(-1, LANES, padded.shape[1] // 2, 2).transpose(1, 2).contiguous().view(torch.uint8).flatten(2)


def pack_int8(weight_OI: Tensor) -> Tensor:
    """Any weight, rounded to 8 bits with one scale for 32 inputs: the kind q8_0."""
    blocks_OKB = weight_OI.float().reshape(weight_OI.shape[0], -1, BLOCK)
    scales_OK = (blocks_OKB.abs().amax(-1) / 127).half()
    steps_OKB = blocks_OKB / scales_OK.float().unsqueeze(-1)
    codes_OKB = torch.nan_to_num(steps_OKB, nan=0.0, posinf=0.0, neginf=0.0).round().clamp(-127, 127).to(torch.int8)
    return _pack_codes(codes_OKB.reshape(weight_OI.shape), scales_OK)


def pack_int4(weight_OI: Tensor) -> Tensor:
    """Any weight, rounded to 4 bits with one scale and one minimum for 32 inputs: the kind q4_1."""
    blocks_OKB = weight_OI.float().reshape(weight_OI.shape[0], -1, BLOCK)
    minima_OK1 = blocks_OKB.amin(-1, keepdim=True).half()
    scales_OK1 = ((blocks_OKB.amax(-1, keepdim=True) - minima_OK1.float()) / 15).half()
    steps_OKB = (blocks_OKB - minima_OK1.float()) / scales_OK1.float()
    codes_OKB = torch.nan_to_num(steps_OKB, nan=0.0, posinf=0.0, neginf=0.0).round().clamp(0, 15).to(torch.uint8)
    first, second = codes_OKB.chunk(2, dim=-1)
    return pack_q4_1(torch.cat((scales_OK1.view(torch.uint8), minima_OK1.view(torch.uint8), first | second << 4), dim=-1))


def pack_q8_0(blocks_OKB: Tensor) -> Tensor:
    """The bytes of a GGUF tensor of type Q8_0, (O, K, 34): a float16 scale and 32 codes."""
    return _pack_codes(blocks_OKB[..., 2:].contiguous().view(torch.int8).flatten(1), _float16(blocks_OKB[..., :2]))


def pack_q4_1(blocks_OKB: Tensor) -> Tensor:
    """The bytes of a GGUF tensor of type Q4_1, (O, K, 20): a float16 scale and minimum, then codes 0-15 in the low and 16-31 in the high halves of 16 bytes."""
    halves = blocks_OKB[..., 4:]
    codes_OI = torch.cat((halves & 15, halves >> 4), dim=-1).flatten(1)
    # (S, K, 16 pairs, 16 lanes, 2): four pairs share a 16-bit word, the first in its lowest bits.
    pairs = _pairs(codes_OI)
    pairs = pairs.view(*pairs.shape[:2], 4, 4, LANES, 2).permute(0, 1, 2, 4, 5, 3)
    codes = (pairs[..., 0::2] | pairs[..., 1::2] << 4).flatten(2)
    scales, minima = _float16(blocks_OKB[..., :2]), _float16(blocks_OKB[..., 2:4])
    return torch.cat((codes, _lanes(scales), _lanes(minima)), dim=-1)


def unpack(records: Tensor, num_outputs: int) -> Tensor:
    """-> the weights (O, I) in float32, exactly the numbers that the C operators multiply with."""
    kind = KINDS[records.shape[-1]]
    num_strips, num_blocks = records.shape[:2]
    if kind == "bfloat16":
        return _from_pairs(records.contiguous().view(torch.bfloat16).float().view(num_strips, num_blocks, BLOCK // 2, LANES, 2))[:num_outputs]
    size = 512 if kind == "q8_0" else 256
    codes = records[..., :size].contiguous()
    if kind == "q8_0":
        codes = codes.view(torch.int8)
    else:
        # Four loads of 16 lanes, two inputs, two bytes with two codes each -> pair by pair.
        codes = codes.view(num_strips, num_blocks, 4, LANES, 2, 2)
        codes = torch.stack((codes & 15, codes >> 4), dim=-1).flatten(5).permute(0, 1, 2, 5, 3, 4)
    codes = codes.reshape(num_strips, num_blocks, BLOCK // 2, LANES, 2).float()
    weights_OKB = _from_pairs(codes).view(-1, num_blocks, BLOCK)
    weights_OKB = weights_OKB * _from_lanes(records[..., size : size + 32])
    if kind == "q4_1":
        weights_OKB = weights_OKB + _from_lanes(records[..., size + 32 :])
    return weights_OKB.flatten(1)[:num_outputs]


def _pack_codes(codes_OI: Tensor, scales_OK: Tensor) -> Tensor:
    return torch.cat((_pairs(codes_OI).view(torch.uint8).flatten(2), _lanes(scales_OK)), dim=-1)


def _pairs(values_OI: Tensor) -> Tensor:
    """(O, I) -> (S, K, 16 pairs of inputs, 16 outputs, 2 inputs)."""
    padded = functional.pad(values_OI, (0, 0, 0, -values_OI.shape[0] % LANES))
    return padded.view(-1, LANES, values_OI.shape[1] // BLOCK, BLOCK // 2, 2).permute(0, 2, 3, 1, 4).contiguous()


def _from_pairs(pairs: Tensor) -> Tensor:
    return pairs.permute(0, 3, 1, 2, 4).reshape(pairs.shape[0] * LANES, -1)


def _lanes(scales_OK: Tensor) -> Tensor:
    """One float16 of each output and block -> its bytes, (S, K, 32)."""
    padded = functional.pad(scales_OK, (0, 0, 0, -scales_OK.shape[0] % LANES))
    return padded.view(-1, LANES, scales_OK.shape[1]).permute(0, 2, 1).contiguous().view(torch.uint8)


def _from_lanes(data: Tensor) -> Tensor:
    return data.contiguous().view(torch.float16).float().permute(0, 2, 1).reshape(-1, data.shape[1], 1)


def _float16(data: Tensor) -> Tensor:
    return data.contiguous().view(torch.float16).squeeze(-1)
