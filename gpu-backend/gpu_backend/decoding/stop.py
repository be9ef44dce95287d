"""Finds stop strings in streamed text, also when they cross the borders of tokens, and holds back only what could still become one."""

from __future__ import annotations


class StopChecker:
    """Feed text as it is decoded; get back what may be shown. Once `is_stopped`, the rest of the stream is dropped."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self._held = ""
        self.is_stopped = False

    def push(self, text: str) -> str:
        """Text that is certain not to belong to a stop string; the stop string itself is never shown."""
        if not self._stop:
            return text
        self._held += text
        found = [at for at in (self._held.find(string) for string in self._stop) if at >= 0]
        if found:
            self.is_stopped = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        keep = self._longest_possible_beginning()
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def finish(self) -> str:
        """What was held back when the answer ends for another reason."""
        shown, self._held = self._held, ""
        return shown

    def _longest_possible_beginning(self) -> int:
        """Length of the longest end of the held text that begins some stop string."""
        longest = min(len(self._held), max(len(string) for string in self._stop) - 1)
        for length in range(longest, 0, -1):
            if any(string.startswith(self._held[-length:]) for string in self._stop):
                return length
        return 0
