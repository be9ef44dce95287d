"""The other process of grammar_trial.py: compiles each grammar it is given and takes one step with it. Run as a file; imports nothing of ours.

The argument holds the compiler's limits. A first line out says that it is ready; then a line of JSON in is `[grammar, limit_s]`, a line of JSON out the
compiler's complaint, or null. Nobody can stop a compilation, so the system's alarm ends this process when one computes for too long (the clock has ten
times as long, since the machine may have other work), and its memory is limited: then the line out never comes.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

_MAX_MEMORY_BYTES = 1024 * 1024 * 1024


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    # One token per byte: what takes for ever does so whatever the vocabulary.
    tokenizer = LLTokenizer("byte")
    limits = LLParserLimits(**json.loads(sys.argv[1]))
    print("ready", flush=True)
    for line in sys.stdin:
        grammar, limit_s = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, limit_s)
        signal.setitimer(signal.ITIMER_REAL, 10 * limit_s)
        matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=limits)
        if not matcher.is_error():
            matcher.compute_bitmask()
        complaint = matcher.get_error() or None
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(complaint), flush=True)


if __name__ == "__main__":
    main()
