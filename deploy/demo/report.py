"""The demo's page: one file that needs nothing beside it."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

TEMPLATE = Path(__file__).with_name("report.html.j2")


def write_report(
    summary: Mapping[str, Any], samples: Sequence[tuple[str, Path]], picture: Path, path: Path
) -> None:
    """Render the summary.

    Args:
        summary: the content of summary.json.
        samples: caption and PNG of sample frames.
        picture: PNG of the prediction on an unseen patient.
        path: the page to write.
    """
    template = jinja2.Template(TEMPLATE.read_text(), autoescape=False)
    datasets = summary["datasets"]
    page = template.render(
        seed=summary["seed"],
        machine=summary["machine"],
        release=summary["release"],
        datasets=datasets,
        methods_caption=f"{summary['test_frames']} test frames in all",
        methods=[_method_row(name, cells, datasets) for name, cells in summary["macro_f1"].items()],
        forgetting_svg=_bars(summary["forgetting"]),
        per_view=summary["per_view"],
        confusions=[_confusion(entry) for entry in summary["confusions"]],
        id_scores=_id_scores(summary["id_scores"]),
        verdict={"picture": _inline(picture), "text": summary["verdict"]["text"]},
        samples=[{"caption": caption, "picture": _inline(file)} for caption, file in samples],
        steps=summary["steps"],
        peak=f"{summary['peak_pss_bytes'] / 1e9:.1f}",
    )
    path.write_text(page)


def _method_row(
    name: str, cells: Mapping[str, float | None], datasets: Sequence[str]
) -> dict[str, Any]:
    values = [cells.get(dataset) for dataset in datasets]
    known = [value for value in values if value is not None]
    mean = f"{sum(known) / len(known):.3f}" if len(known) == len(values) else "-"
    texts = ["-" if value is None else f"{value:.3f}" for value in values]
    return {"name": name, "cells": texts, "mean": mean, "ours": name.startswith("fused, after")}


def _confusion(entry: Mapping[str, Any]) -> dict[str, Any]:
    rows = []
    for label, counts in zip(entry["labels"], entry["confusion"], strict=True):
        total = max(sum(counts), 1)
        cells = [{"count": count, "share": round(0.8 * count / total, 2)} for count in counts]
        rows.append({"label": label, "cells": cells})
    return {"name": entry["name"], "labels": entry["labels"], "rows": rows}


def _id_scores(table: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    experts = list(next(iter(table.values()), {}))
    rows = [
        {
            "dataset": dataset,
            "cells": [{"text": f"{row[e]:.2f}", "share": round(0.8 * row[e], 2)} for e in experts],
        }
        for dataset, row in table.items()
    ]
    return {"experts": experts, "rows": rows}


def _bars(changes: Mapping[str, Mapping[str, float]]) -> str:
    """Horizontal bars of change by method and dataset, as inline SVG."""
    lines = [
        (f"{method}: {dataset}", value)
        for method, row in changes.items()
        for dataset, value in row.items()
    ]
    widest = max([0.05, *(abs(value) for _, value in lines)])
    parts = []
    for place, (text, value) in enumerate(lines):
        y = 14 + 22 * place
        length = 240 * abs(value) / widest
        x = 520 - length if value < 0 else 520
        colour = "#b3423a" if value < 0 else "#0b6e8a"
        parts.append(
            f'<text x="270" y="{y + 4}" text-anchor="end" font-size="13">{text}</text>'
            f'<rect x="{x:.1f}" y="{y - 8}" width="{length:.1f}" height="14" fill="{colour}"/>'
            f'<text x="{780}" y="{y + 4}" font-size="13">{value:+.3f}</text>'
        )
    height = 22 * len(lines) + 12
    axis = f'<line x1="520" x2="520" y1="0" y2="{height}" stroke="#5d6b78"/>'
    return f'<svg width="840" height="{height}" role="img">{axis}{"".join(parts)}</svg>'


def _inline(file: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
