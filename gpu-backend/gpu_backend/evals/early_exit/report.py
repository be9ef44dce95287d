"""The outcome of an analysis as tables for people and for docs, as one JSON object, and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpu_backend.evals.early_exit.layer_tables import KINDS, LayerRow, OracleRow
from gpu_backend.evals.early_exit.operating_points import GateRow, PointRow
from gpu_backend.evals.tables import markdown_table

_POINT_HEADER = ("risk", "gate and layer", "threshold", "leave early", "disagreement, held out", "positions", "speed-up")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTables:
    """What was found on texts of one source."""

    source: str
    num_texts: int
    num_positions: int
    shares_of_kinds: dict[str, float]
    layers: Sequence[LayerRow]
    oracles: Sequence[OracleRow]
    gates: Sequence[GateRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitReport:
    """`settings` say what was read how. `points` come from the model's own answers."""

    settings: dict[str, Any]
    sources: Sequence[SourceTables]
    points: Sequence[PointRow]

    def to_json(self) -> dict[str, Any]:
        sources, points = [asdict(source) for source in self.sources], [asdict(point) for point in self.points]
        return {"name": "early-exit", "settings": self.settings, "sources": sources, "points": points}

    def to_markdown(self) -> str:
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        points = markdown_table(_POINT_HEADER, map(_point_row, self.points))
        return "\n\n".join([f"Settings: {settings}.", *(part for source in self.sources for part in _parts(source)), "### Operating points", points]) + "\n"

    def draw(self, path: Path) -> None:
        """One row of panels for each source: agreement by layer, and by kind of token."""
        # Imported here: only measuring needs it. The figure is made without pyplot, which would look for a screen.
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11, 4.2 * len(self.sources)), layout="constrained")
        grid = figure.subplots(len(self.sources), 2, squeeze=False)
        for (left, right), source in zip(grid, self.sources, strict=True):
            numbers = [row.layer for row in source.layers]
            left.plot(numbers, [row.agreement for row in source.layers], marker="o", label="after the layer")
            left.plot(numbers, [row.attention_agreement for row in source.layers], marker=".", linestyle="--", label="after its attention")
            left.plot(numbers, [row.max_prob for row in source.layers], color="0.6", label="mean highest probability")
            left.set_title(f"{source.source}: token equal to the last layer's")
            for kind in KINDS:
                right.plot(numbers, [row.by_kind[kind] for row in source.layers], marker=".", label=f"{kind} ({source.shares_of_kinds[kind]:.0%})")
            right.set_title(f"{source.source}: by kind of token")
            for axes in (left, right):
                axes.set(xlabel="layer", ylabel="share of positions", ylim=(0, 1))
                axes.grid(alpha=0.3)
                axes.legend()
        figure.savefig(path, dpi=110)


def _parts(source: SourceTables) -> list[str]:
    return [
        f"### {source.source}: {source.num_texts} texts, {source.num_positions:,} positions",
        markdown_table(("layer", "agreement", "after attention", *KINDS, "mean max p", "lossless speed-up (drafts)"), map(_layer_row, source.layers)),
        markdown_table(("rule", "mean layer", *KINDS, "agreement"), map(_oracle_row, source.oracles)),
        markdown_table(("gate at every layer", "disagreement allowed", "threshold", "mean layer", "disagreement", "speed-up"), map(_gate_row, source.gates)),
    ]


def _layer_row(row: LayerRow) -> tuple[str, ...]:
    kinds = (f"{row.by_kind[kind]:.3f}" for kind in KINDS)
    drafts = f"{row.lossless_speed_up:.2f} ({row.num_drafts})"
    return (
        str(row.layer), f"{row.agreement:.3f}", f"{row.attention_agreement:.3f}", *kinds, f"{row.max_prob:.3f}", drafts,
    )  # fmt: skip


def _oracle_row(row: OracleRow) -> tuple[str, ...]:
    return row.rule, f"{row.mean_layer:.2f}", *(f"{row.by_kind[kind]:.2f}" for kind in KINDS), f"{row.agreement:.3f}"


def _gate_row(row: GateRow) -> tuple[str, ...]:
    threshold = "-" if row.threshold is None else f"{row.threshold:.4f}"
    return row.gate, f"{row.level:.1%}", threshold, f"{row.mean_layer:.2f}", f"{row.disagreement:.2%}", f"{row.speed_up:.2f}"


def _point_row(row: PointRow) -> tuple[str, ...]:
    if row.gate is None:
        return f"{row.level:.1%}", "none holds that is faster than full depth", "-", "-", "-", f"{row.num_positions:,}", "1.00"
    low, high = row.disagreement_interval
    return (
        f"{row.level:.1%}", f"{row.gate}, {row.layer}", f"{row.threshold:.4f}", f"{row.exit_share:.1%}", f"{row.disagreement:.2%} [{low:.2%}, {high:.2%}]",
        f"{row.num_positions:,}", f"{row.speed_up:.2f}",
    )  # fmt: skip
