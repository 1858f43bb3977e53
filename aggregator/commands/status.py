"""``echofed-aggregator status``: sites, what they announced, increments and what serves."""

from pathlib import Path
from typing import Any

from aggregator.centre import Centre
from aggregator.commands.options import (
    CONFIG_FILE,
    ConfigOption,
    JsonOption,
    SetOption,
    open_for_command,
)
from aggregator.serving import served_models, serving_fusion
from shared.console import emit, table
from shared.echo.model_card import KINDS, ModelKind, kind_folder


def status(
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is announced and not yet fused, and which sites are absent since when."""
    centre = open_for_command(config, overrides)
    document: dict[str, Any] = {
        "federation": centre.settings.federation.name,
        "serving": serving_fusion(centre.ledger),
        "sites": _sites(centre),
        "callers": _callers(centre),
        "datasets": _datasets(centre),
        "experts": [
            {"expert": row.id, "site": row.site, "arrived": row.arrived}
            for row in centre.state.experts()
        ],
        "fusions": [
            {"fusion": row.id, "trained": row.trained, "model_version": row.model_version}
            for row in centre.state.fusions()
        ],
        **{kind_folder(kind): _models(centre, kind) for kind in KINDS},
        "increments": [
            {
                "increment": row.id,
                "status": row.status,
                "step": row.step,
                "started": row.started,
                "finished": row.finished,
                "fusion": row.fusion,
                "error": row.error,
            }
            for row in centre.state.increments()
        ],
    }
    document["withdrawals"] = [
        {"dataset": f"{row.site}/{row.dataset}", "status": row.status, "since": row.since}
        for row in centre.state.withdrawals()
    ]
    document["not_yet_fused"] = [
        f"{row['site']}/{row['dataset']}"
        for row in document["datasets"]
        if not row["fused_in"] and not row["withdrawn"]
    ]
    kinds = ("sites", "callers", "datasets", "experts", "fusions", *map(kind_folder, KINDS))
    tables = [table("centre", ("what", "value"), _facts(document))]
    tables += [
        table(kind, tuple(document[kind][0]), [_cells(row) for row in document[kind]])
        for kind in (*kinds, "increments", "withdrawals")
        if document[kind]
    ]
    emit(document, as_json=as_json, tables=tables)


def _facts(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("federation", document["federation"]),
        ("serving", document["serving"] or "-"),
        ("announced and not yet fused", ", ".join(document["not_yet_fused"]) or "-"),
    ]


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    return tuple(", ".join(cell) if isinstance(cell, list) else cell for cell in row.values())


def _callers(centre: Centre) -> list[dict[str, str]]:
    from aggregator.callers import callers

    return [
        {
            "caller": one.name,
            "role": one.role,
            "status": one.status,
            "certificate_ends": one.expires,
        }
        for one in callers(centre.authority)
    ]


def _models(centre: Centre, kind: ModelKind) -> list[dict[str, Any]]:
    return [
        {
            kind: one.model,
            "site": one.site,
            "origin": one.origin,
            **({"answers": one.answers} if one.answers else {}),
            "aliases": list(one.aliases),
            "registered": one.registered,
        }
        for one in served_models(centre.ledger).values()
        if one.kind == kind
    ]


def _sites(centre: Centre) -> list[dict[str, str]]:
    """Admitted sites from the state, and those whose kit is still out."""
    from aggregator.enrolment import enrolments

    seen = {row.code: row for row in centre.state.sites()}
    return [
        {
            "site": entry.site,
            "status": entry.status,
            "last_seen": seen[entry.site].last_seen if entry.site in seen else "",
            "absent_since": seen[entry.site].absent_since if entry.site in seen else "",
            "certificate_ends": entry.expires,
        }
        for entry in enrolments(centre.authority)
    ]


def _datasets(centre: Centre) -> list[dict[str, Any]]:
    rows = [
        {
            "site": row.site,
            "dataset": row.dataset,
            "origin": row.origin,
            "labels": len(row.labels),
            "announced": row.announced,
            "fused_in": row.fused_in,
            "withdrawn": row.withdrawn,
        }
        for row in (*centre.state.announcements(), *centre.state.withdrawn())
    ]
    return sorted(rows, key=lambda row: (str(row["site"]), str(row["dataset"])))
