"""The outcome of a reward evaluation as tables for people and for docs, as one JSON object, and as a picture of its reliability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpu_backend.evals.reward_measures import ControlMeasures, SetMeasures, Share
from gpu_backend.evals.statistics import Interval
from gpu_backend.evals.tables import markdown_table

_SET_HEADER = (
    "set", "pairs", "accuracy", "macro", "shorter is better", "longer is better", "both orders agree", "position bias", "slot A", "ECE (by chance)",
    "log-loss", "less ln 2",
)  # fmt: skip
_CONTROL_HEADER = ("set", "control", "accuracy", "model less control", "both orders agree")
_SUBSET_HEADER = ("set", "subset", "pairs", "accuracy")


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardReport:
    """`settings` say what was measured how."""

    settings: dict[str, Any]
    sets: Sequence[SetMeasures]
    controls: Sequence[ControlMeasures]

    def to_json(self) -> dict[str, Any]:
        """One object; a share without pairs has the value null."""
        sets = [{**asdict(one), "sections": one.sections, "macro_accuracy": one.macro_accuracy} for one in self.sets]
        numbers = _without_nan({"name": "reward", "settings": self.settings, "sets": sets, "controls": [asdict(one) for one in self.controls]})
        assert isinstance(numbers, dict)
        return numbers

    def to_markdown(self) -> str:
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        subsets = [(one.name, name, str(share.num), _share(share)) for one in self.sets if len(one.subsets) > 1 for name, share in one.subsets.items()]
        tables = [markdown_table(_SET_HEADER, map(_set_row, self.sets)), markdown_table(_CONTROL_HEADER, map(_control_row, self.controls))]
        return "\n\n".join([f"Settings: {settings}.", *tables, *([markdown_table(_SUBSET_HEADER, subsets)] if subsets else [])]) + "\n"

    def draw_reliability(self, path: Path) -> None:
        """Confidence against the share of right verdicts, in bins of equally many pairs; the diagonal is perfect."""
        # Imported here: only the evaluation needs it. The figure is made without pyplot, which would look for a screen.
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 6), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0.5, 1], [0.5, 1], color="0.7", linestyle="--", label="perfect")
        for one in self.sets:
            axes.plot(
                [point[0] for point in one.reliability], [point[1] for point in one.reliability], marker="o", label=f"{one.name} ({one.accuracy.num} pairs)"
            )
        axes.set(xlabel="confidence, max(P, 1 - P)", ylabel="share of right verdicts", xlim=(0.5, 1), ylim=(0, 1), title="Reliability")
        axes.legend()
        figure.savefig(path, dpi=120)


def _set_row(one: SetMeasures) -> tuple[str, ...]:
    pairs = f"{one.accuracy.num}" if one.num_available == one.accuracy.num else f"{one.accuracy.num} of {one.num_available}"
    return (
        one.name,
        pairs,
        _share(one.accuracy),
        f"{one.macro_accuracy:.3f}" if len(one.subsets) > 1 else "-",
        f"{_share(one.shorter_is_better)} of {one.shorter_is_better.num}",
        f"{_share(one.longer_is_better)} of {one.longer_is_better.num}",
        f"{one.consistency:.3f}",
        f"{one.position_bias:.3f}",
        f"{one.first_slot:.3f}",
        f"{one.calibration_error:.3f} ({one.calibration_error_by_chance:.3f})",
        f"{one.log_loss:.4f}",
        f"{one.log_loss_less_constant:+.4f} {_interval(one.log_loss_interval, 4)}",
    )


def _control_row(one: ControlMeasures) -> tuple[str, ...]:
    agree = "-" if one.consistency is None else f"{one.consistency:.3f}"
    return one.set_name, one.name, _share(one.accuracy), f"{one.less_control:+.3f} {_interval(one.interval, 3)}", agree


def _share(share: Share) -> str:
    return f"{share.value:.3f} [{share.interval[0]:.3f}, {share.interval[1]:.3f}]" if share.num else "-"


def _interval(interval: Interval, digits: int) -> str:
    return f"[{interval[0]:+.{digits}f}, {interval[1]:+.{digits}f}]"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
