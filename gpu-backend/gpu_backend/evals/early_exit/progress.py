"""Says now and then how many texts of a long run are done, apart from what the run prints."""

from __future__ import annotations

import sys

from gpu_backend.evals.early_exit.layer_readings import Progress


def telling(label: str) -> Progress:
    def tell(num_done: int, num: int) -> None:
        if num_done % 20 == 0 or num_done == num:
            print(f"{label}: {num_done} of {num} texts", file=sys.stderr, flush=True)

    return tell
