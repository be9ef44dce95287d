"""Tries a grammar in another process first: some schemas of a few hundred bytes would take for ever to compile, and nothing can stop that in our own."""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from gpu_backend.core import GrammarError

# The name of the part of a grammar of tool calls that speaks of tokens.
TOOL_GRAMMAR = "tools"
_WORKER = Path(__file__).with_name("grammar_worker.py")
_MAX_MESSAGE = 300
# How long a start may take, and how many times the limit on computing may pass by the clock: the machine has other work.
_START_S = 30.0
_WALL_FACTOR = 10
_TOKEN = re.compile(r"<\[\d+\]>")


class GrammarTrial:
    """One process, started when first needed and again after it had to end. May be used from any thread; grammars take turns."""

    def __init__(self, compiler_limits: dict[str, Any], limit_s: float = 0.5) -> None:
        self._compiler_limits = compiler_limits
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._worker: subprocess.Popen[str] | None = None

    def check(self, grammar: str) -> None:
        """Raises GrammarError when the grammar does not compile, or not within the limit, or when no text fits it."""
        with self._lock:
            worker = self._worker if self._worker is not None and self._worker.poll() is None else self._start()
            assert worker.stdin is not None and worker.stdout is not None
            try:
                worker.stdin.write(json.dumps([_without_tokens(grammar), self._limit_s]) + "\n")
                worker.stdin.flush()
                # The worker ends itself in time; this is for one that cannot.
                answer = worker.stdout.readline() if _has_news(worker, _WALL_FACTOR * self._limit_s + 1) else ""
            except BrokenPipeError:
                answer = ""
            if not answer:
                worker.kill()
                worker.wait()
                raise GrammarError("it is too complex to compile")
        complaint: str | None = json.loads(answer)
        if complaint is not None:
            raise GrammarError(reason_of(complaint))

    def _start(self) -> subprocess.Popen[str]:
        # Isolated: it needs the packages of this interpreter and nothing of the environment.
        command = [sys.executable, "-I", str(_WORKER), json.dumps(self._compiler_limits)]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert worker.stdout is not None
        if not _has_news(worker, _START_S) or not worker.stdout.readline():
            worker.kill()
            worker.wait()
            raise RuntimeError("the process that tries grammars did not start")
        self._worker = worker
        return worker


def _has_news(worker: subprocess.Popen[str], timeout_s: float) -> bool:
    """Whether a line, or the end, can be read without waiting longer than this."""
    assert worker.stdout is not None
    return bool(select.select([worker.stdout], [], [], timeout_s)[0])


def _without_tokens(grammar: str) -> str:
    """The grammar of tool calls names tokens by their numbers. The process has another vocabulary, in which any one token takes as long as any other."""
    if not grammar.startswith('{"grammars"'):
        return grammar
    value = json.loads(grammar)
    for part in value["grammars"]:
        if part.get("name") == TOOL_GRAMMAR:
            part["lark_grammar"] = _TOKEN.sub("<[0]>", part["lark_grammar"])
    return json.dumps(value)


def reason_of(complaint: str) -> str:
    """The compiler's first line; what it says about its own state after running out of something is for its authors."""
    first = complaint.splitlines()[0][:_MAX_MESSAGE]
    return "no text fits it, or it is too complex to follow" if first.startswith("NoExtension") else first
