"""Stop strings across token borders: what is shown never holds one, and never holds back more than it must."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpu_backend.decoding.stop import StopChecker


def feed(stop: tuple[str, ...], parts: list[str]) -> tuple[str, bool]:
    checker, shown = StopChecker(stop), ""
    for part in parts:
        shown += checker.push(part)
        if checker.is_stopped:
            return shown, True
    return shown + checker.finish(), False


def test_stop_string_over_three_tokens() -> None:
    checker = StopChecker(("END",))
    assert [checker.push(part) for part in ("a E", "N", "D b")] == ["a ", "", ""]
    assert checker.is_stopped


def test_a_beginning_that_does_not_continue_is_shown() -> None:
    checker = StopChecker(("END",))
    assert [checker.push(part) for part in ("EN", "EN", "T", "x")] == ["", "EN", "ENT", "x"]


def test_the_earliest_of_several_wins() -> None:
    assert feed(("lo", "ell"), ["hello"]) == ("h", True)


def test_what_was_held_back_appears_at_the_end() -> None:
    assert feed(("\n\n",), ["a\n"]) == ("a\n", False)


@given(st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=4), st.lists(st.text("abc", max_size=4), max_size=12))
def test_equals_searching_the_whole_text(stop: list[str], parts: list[str]) -> None:
    text = "".join(parts)
    found = [text.find(string) for string in stop if string in text]
    shown, is_stopped = feed(tuple(stop), parts)
    assert is_stopped == bool(found)
    # Cut into tokens, the match that completes first wins; it is never later than any match found in the whole text.
    if found:
        assert text.startswith(shown) and min(found) <= len(shown)
        assert all(string not in shown for string in stop)
    else:
        assert shown == text
