"""The records of `cpu/*.h` as ctypes sees them; a field here and there must stay in the same order."""

from __future__ import annotations

import ctypes
from ctypes import c_double, c_float, c_int64, c_void_p


class Matrix(ctypes.Structure):
    _fields_ = (("records", c_void_p), ("bias", c_void_p), ("kind", c_int64), ("num_inputs", c_int64), ("num_outputs", c_int64))


class HeadShape(ctypes.Structure):
    _fields_ = tuple((name, c_int64) for name in ("num_heads", "num_kv_heads", "head_dim", "num_blocks", "block_size"))


class Batch(ctypes.Structure):
    _fields_ = (*((name, c_void_p) for name in ("positions", "slots", "tables", "lengths")), ("num_rows", c_int64), ("num_columns", c_int64))


class Rotation(ctypes.Structure):
    _fields_ = (*((name, c_void_p) for name in ("cos", "sin", "q_norm", "k_norm")), ("eps", c_float))


class LowRank(ctypes.Structure):
    _fields_ = (("a", c_void_p), ("b", c_void_p), ("num_outputs", c_int64), ("rank", c_int64))


class Adapters(ctypes.Structure):
    _fields_ = (("rows", c_void_p), ("max_rank", c_int64))


class Layer(ctypes.Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("attention_norm", "q_norm", "k_norm", "mlp_norm")),
        *((name, Matrix) for name in ("qkv", "output", "gate_up", "down")),
    )


class ExitBlock(ctypes.Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("deep_norms", "exit_norm", "known_norm", "norm", "out_norm")),
        *((name, Matrix) for name in ("fuse", "mix", "gate_up", "down", "head")),
        ("num_deep_layers", c_int64),
        ("hidden_size", c_int64),
        ("width", c_int64),
        ("eps", c_float),
    )


class Decoder(ctypes.Structure):
    _fields_ = (
        ("layers", ctypes.POINTER(Layer)),
        ("cos", c_void_p),
        ("sin", c_void_p),
        ("hidden_size", c_int64),
        ("intermediate_size", c_int64),
        ("eps", c_float),
    )


class Notes(ctypes.Structure):
    _fields_ = (("layers", c_void_p), ("num_layers", c_int64), ("out", c_void_p))


class DraftParts(ctypes.Structure):
    _fields_ = (
        ("embedding", ctypes.POINTER(Matrix)),
        ("decoder", ctypes.POINTER(Decoder)),
        ("block", ctypes.POINTER(ExitBlock)),
        ("shortlist", c_void_p),
        ("calibration", c_void_p),
        ("hidden_size", c_int64),
        ("exit_layer", c_int64),
    )


class DraftRule(ctypes.Structure):
    _fields_ = (("most", c_int64), ("least_kept", c_double), ("least_to_go_on", c_double), ("least_to_stand", c_double))
