"""Message texts are data: whatever they say, they neither become control tokens nor template code."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_backend.chat_template import ChatTemplate, TemplateRefusedError
from support import byte_tokenizer

CONTROL = ("<|start|>", "<|end|>", "<|x|>")
TOKENIZER = byte_tokenizer(CONTROL)
SOURCE = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content | trim }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
TEMPLATE = ChatTemplate(SOURCE, TOKENIZER, {"bos_token": "", "eos_token": "<|end|>"})
PIECES = st.sampled_from([*CONTROL, "<", "<|", "|>", "|", ">", "start", "end|", "{{ 7*7 }}", "{% raw %}", "\ue000", "\ue001", " ", "\n", "a", "é"])
TEXTS = st.lists(PIECES, max_size=10).map("".join) | st.text(max_size=20)


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@given(TEXTS)
def test_frame_is_the_same_whatever_the_text_says(text: str) -> None:
    control = set(TOKENIZER.control_ids.values())
    start, end = TOKENIZER.control_ids["<|start|>"], TOKENIZER.control_ids["<|end|>"]
    ids = TEMPLATE.encode(user(text))
    assert [i for i in ids if i in control] == [start, end, start]
    assert TOKENIZER.decode(ids) == f"user\n{text.strip()}\nassistant\n"


def test_borders_with_the_template_cannot_complete_a_control_token() -> None:
    """The template puts `<` before and `>` after the text; only the text's own shield keeps the two apart."""
    template = ChatTemplate("<{{ messages[0].content }}>|end|>", TOKENIZER, {})
    for text in ("|start|", "|x|", "|start|>", "<|end|"):
        ids = template.encode(user(text), add_generation_prompt=False)
        assert not set(ids) & set(TOKENIZER.control_ids.values())
        assert TOKENIZER.decode(ids) == f"<{text}>|end|>"


def test_template_code_in_messages_is_not_run() -> None:
    assert "{{ 7*7 }}" in TOKENIZER.decode(TEMPLATE.encode(user("{{ 7*7 }}")))


def test_developer_is_rendered_as_system() -> None:
    assert TOKENIZER.decode(TEMPLATE.encode([{"role": "developer", "content": "a"}])).startswith("system\na")


def test_a_template_that_refuses_says_why() -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}", TOKENIZER, {})
    with pytest.raises(TemplateRefusedError, match="roles must alternate"):
        template.encode(user("a"))


@pytest.mark.parametrize(
    "source", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ messages[0].content.format.__globals__.x }}", "{{ undefined.x }}"]
)
def test_the_sandbox_refuses_to_leave(source: str) -> None:
    with pytest.raises(TemplateRefusedError):
        ChatTemplate(source, TOKENIZER, {}).encode(user("a"))


def test_control_tokens_of_one_character_are_refused() -> None:
    with pytest.raises(ValueError, match="one character"):
        ChatTemplate(SOURCE, byte_tokenizer(("\u2402",)), {})
