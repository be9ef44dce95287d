"""Text and ids: control tokens only when asked for, and streams that never cut a character."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpu_backend.tokenizer import IncrementalDecoder
from support import byte_tokenizer

CONTROL = ("<|start|>", "<|end|>", "<|")
TOKENIZER = byte_tokenizer(CONTROL, merges=(("a", "b"), ("ab", "c")))
PIECES = st.sampled_from([*CONTROL, "<", "|", ">", "start", "end", "a", "b", "c", "é", "日", "👩‍👧", " ", "\n"])
TEXTS = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=40)


@given(TEXTS)
def test_plain_text_never_yields_a_control_token(text: str) -> None:
    ids = TOKENIZER.encode_text(text)
    assert not set(ids) & set(TOKENIZER.control_ids.values())
    assert TOKENIZER.decode(ids) == text


def test_trusted_text_yields_control_tokens_longest_first() -> None:
    start, opening = TOKENIZER.control_ids["<|start|>"], TOKENIZER.control_ids["<|"]
    assert TOKENIZER.encode_trusted("<|start|>a<|") == [start, ord("a"), opening]


def test_merges_apply_across_a_removed_shield() -> None:
    shield = "\ue000"
    assert TOKENIZER.encode_trusted(f"a{shield}bc", shield) == TOKENIZER.encode_text("abc") == [257]


@given(st.lists(st.integers(0, 260), max_size=60))
def test_incremental_decoding_equals_decoding_at_once(ids: list[int]) -> None:
    decoder = IncrementalDecoder(TOKENIZER)
    parts = [decoder.push(token_id) for token_id in ids]
    assert "".join(parts) + decoder.finish() == TOKENIZER.decode(ids)


def test_incremental_decoding_never_emits_half_a_character() -> None:
    text = "é日👩‍👧"
    decoder = IncrementalDecoder(TOKENIZER)
    parts = [decoder.push(byte) for byte in text.encode()]
    assert "\ufffd" not in "".join(parts)
    assert [part for part in parts if part] == list(text)


def test_half_a_character_at_the_end_becomes_a_replacement() -> None:
    decoder = IncrementalDecoder(TOKENIZER)
    assert [decoder.push(byte) for byte in "é".encode()[:1]] == [""]
    assert decoder.finish() == "\ufffd"


def test_longest_token_bounds_the_bytes_of_any_text() -> None:
    assert TOKENIZER.max_token_bytes == 3
    assert TOKENIZER.vocab_size == 258 + 3
