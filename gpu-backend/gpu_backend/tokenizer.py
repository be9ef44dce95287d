"""Text to token ids and back: control tokens only where the caller asks for them, bytes exactly as the model produced them.

Byte-level BPE tokenizers only: there every token is a known string of bytes, so decoding a stream is concatenation.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer as HfTokenizer


class Tokenizer:
    """Two views of one vocabulary: the plain one never produces a control token, whatever the text says."""

    def __init__(self, tokenizer_json: str) -> None:
        raw = json.loads(tokenizer_json)
        added: list[dict[str, object]] = raw.get("added_tokens") or []
        if (raw.get("decoder") or {}).get("type") not in ("ByteLevel", "Sequence") or '"ByteLevel"' not in json.dumps(raw.get("decoder")):
            raise ValueError("only byte-level BPE tokenizers are supported")
        self.control_ids: dict[str, int] = {str(token["content"]): int(str(token["id"])) for token in added}
        self._plain = _without_control_tokens(raw)
        self._bytes = _token_bytes(raw["model"]["vocab"], self.control_ids)
        self.vocab_size = max(self._bytes) + 1
        self.max_token_bytes = max(len(value) for value in self._bytes.values())
        longest_first = sorted(self.control_ids, key=len, reverse=True)
        self._control_pattern = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if longest_first else None

    @classmethod
    def from_file(cls, path: Path) -> Tokenizer:
        return cls(path.read_text(encoding="utf-8"))

    def encode_text(self, text: str) -> list[int]:
        """Ids of plain text. Strings that look like control tokens become ordinary tokens."""
        return self._plain.encode(text, add_special_tokens=False).ids if text else []

    def encode_trusted(self, text: str, shield: str | None = None) -> list[int]:
        """Ids of text whose control tokens are meant, such as a rendered template. `shield` is a character removed after control tokens were
        found: put it inside a string to keep that string from being read as a control token."""
        if self._control_pattern is None:
            return self.encode_text(text.replace(shield, "") if shield else text)
        ids: list[int] = []
        for index, part in enumerate(self._control_pattern.split(text)):
            if index % 2:
                ids.append(self.control_ids[part])
            else:
                ids.extend(self.encode_text(part.replace(shield, "") if shield else part))
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes this token stands for; empty for control tokens and ids that the vocabulary lacks."""
        return self._bytes.get(token_id, b"")

    def token_text(self, token_id: int) -> str:
        """The token for display: half characters show as U+FFFD."""
        return self.token_bytes(token_id).decode("utf-8", errors="replace")

    def decode(self, token_ids: Iterable[int]) -> str:
        return b"".join(map(self.token_bytes, token_ids)).decode("utf-8", errors="replace")


class IncrementalDecoder:
    """Turns a stream of tokens into a stream of whole characters; the concatenation equals `Tokenizer.decode` of all tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        return self._utf8.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        """What is left of a character that never completed."""
        return self._utf8.decode(b"", final=True)


def _without_control_tokens(raw: dict[str, object]) -> HfTokenizer:
    """The same model without its added tokens, in the vocabulary too, so that no merge or look-up can arrive at one."""
    model = dict(raw["model"])  # type: ignore[call-overload]
    control = {str(token["content"]) for token in raw.get("added_tokens") or []}  # type: ignore[attr-defined]
    model["vocab"] = {token: index for token, index in model["vocab"].items() if token not in control}
    if model.get("unk_token") in control:
        model["unk_token"] = None
    return HfTokenizer.from_str(json.dumps({**raw, "model": model, "added_tokens": [], "post_processor": None, "truncation": None, "padding": None}))


def _token_bytes(vocab: dict[str, int], control_ids: dict[str, int]) -> dict[int, bytes]:
    """Undo the printable alphabet of byte-level BPE (GPT-2): printable Latin-1 stands for itself, other bytes for code points from 256 on."""
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(itself)]
    byte_of = {chr(byte): byte for byte in itself} | {chr(256 + index): byte for index, byte in enumerate(others)}
    table = {index: bytes(byte_of[char] for char in token) for token, index in vocab.items() if token not in control_ids}
    return table | dict.fromkeys(control_ids.values(), b"")
