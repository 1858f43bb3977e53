"""What an auditor asks of the centre: does the record hold, and which expert is at home where."""

from typing import Any

from aggregator.centre import Centre
from aggregator.model_registry import ModelRegistry
from aggregator.schema import Fusion
from aggregator.serving import WITHDRAWN, serving_fusion, unfinished_withdrawals
from shared.echo.expert import load_expert, load_fusion
from shared.errors import Code, EchoFedError


def verify(centre: Centre, registry: ModelRegistry) -> dict[str, Any]:
    """Check the ledger's chain, and registry, bank, checkpoints and withdrawals against it.

    Raises:
        EchoFedError: LEDGER_BROKEN naming what does not agree, CHECKPOINT_CORRUPT for an altered
            file, RUN_FAILED for a withdrawal that was begun and not finished.
    """
    num_entries = centre.ledger.verify()
    _expect_finished(centre)
    recorded: dict[str, set[str]] = {}
    for entry in centre.ledger.entries():
        if "sha256" in entry.body:
            recorded.setdefault(entry.kind, set()).add(str(entry.body["sha256"]))
    _expect_served(centre, registry)
    return {
        "ledger_entries": num_entries,
        "head": centre.ledger.head(),
        "serving": serving_fusion(centre.ledger),
        "exports": _check_bank(centre, recorded.get("export.arrived", set())),
        "experts": _check_experts(centre, recorded.get("expert.arrived", set())),
        "fusions": _check_fusions(centre, recorded.get("fusion.registered", set())),
        "withdrawals": expect_purged(centre),
    }


def expert_scores(centre: Centre, fusion: str = "") -> dict[str, Any]:
    """Mean id scores by gated variant and at the sites, scorecard of evidence, calibration, depths.

    The last three are empty for a fusion of a release that did not measure them.

    Args:
        centre: the open centre.
        fusion: id; empty is the newest.

    Raises:
        EchoFedError: FUSION_UNKNOWN, NOTHING_TO_DO where there is none yet.
    """
    row = newest_fusion(centre, fusion)
    return {
        "fusion": row.id,
        "variant": row.report["variant"],
        "origins": {name: one["origin"] for name, one in row.report["datasets"].items()},
        "id_scores": row.report["id_scores"],
        "scorecard": row.report.get("scorecard", {}),
        "calibration": row.report.get("calibration", {}),
        "depths": row.report.get("depths", {}).get(row.report["variant"], {}),
        "at_sites": {
            f"{one.site}/{one.dataset}": one.document.get("id_scores", {})
            for one in centre.state.evaluations(row.id)
        },
    }


def expect_purged(centre: Centre) -> list[dict[str, Any]]:
    """Every certificate of a withdrawal, once nothing that it calls purged is found here.

    Raises:
        EchoFedError: LEDGER_BROKEN.
    """
    kinds = ("experts", "fusions")
    here = {path.name for kind in kinds for path in (centre.folder / kind).glob("*")}
    here |= centre.bank.files() | {row.weights_sha256 for row in centre.state.experts()}
    certificates = [entry for entry in centre.ledger.entries() if entry.kind == WITHDRAWN]
    for entry in certificates:
        experts = entry.body["purged_experts"]
        purged = {*experts, *experts.values(), *entry.body["purged_fusions"]}
        left = here & {*purged, *entry.body["purged_exports"]}
        if left:
            raise EchoFedError(
                Code.LEDGER_BROKEN,
                f"{len(left)} things withdrawn with {entry.body['dataset']} are here again",
                "a backup was restored; remove what the certificate lists as purged",
            )
    return [
        {"dataset": one.body["dataset"], "exact": one.body["exact"], "certificate": one.leaf}
        for one in certificates
    ]


def newest_fusion(centre: Centre, fusion: str = "") -> Fusion:
    """A fusion by id, the newest by default.

    Raises:
        EchoFedError: FUSION_UNKNOWN, NOTHING_TO_DO where there is none yet.
    """
    rows = centre.state.fusions()
    if not rows:
        raise EchoFedError(Code.NOTHING_TO_DO, "there is no fusion yet", "run increment first")
    return centre.state.fusion(fusion) if fusion else rows[-1]


def _expect_served(centre: Centre, registry: ModelRegistry) -> None:
    """MLflow keeps no history of aliases (mlflow/mlflow issue 2169): the ledger is compared."""
    told = serving_fusion(centre.ledger)
    version = registry.version_of("serving")
    found = next((one.fusion for one in registry.versions() if one.version == version), None)
    if found != told:
        raise EchoFedError(
            Code.LEDGER_BROKEN,
            f"the registry serves {found}, the ledger says {told}",
            "find out who moved the alias; promote or roll back by command to mend it",
        )


def _check_bank(centre: Centre, recorded: set[str]) -> int:
    entries = centre.bank.entries()
    for entry in entries:
        centre.bank.read(entry)
        _expect_recorded(entry.sha256, recorded, f"export {entry.card.id}")
    return len(entries)


def _check_experts(centre: Centre, recorded: set[str]) -> int:
    rows = centre.state.experts()
    for row in rows:
        card, _ = load_expert(centre.expert_folder(row.id))
        _expect_recorded(card.weights_sha256, recorded, f"expert {row.id}")
    return len(rows)


def _check_fusions(centre: Centre, recorded: set[str]) -> int:
    rows = [row for row in centre.state.fusions() if row.model_version]
    for row in rows:
        card, _ = load_fusion(centre.fusion_folder(row.id))
        _expect_recorded(card.weights_sha256, recorded, f"fusion {row.id}")
    return len(rows)


def _expect_finished(centre: Centre) -> None:
    for dataset in unfinished_withdrawals(centre.ledger):
        raise EchoFedError(
            Code.RUN_FAILED,
            f"the withdrawal of {dataset} was begun and has no certificate",
            f"run withdraw {dataset} once more; it goes on where it stood",
        )


def _expect_recorded(sha256: str, recorded: set[str], what: str) -> None:
    if sha256 not in recorded:
        raise EchoFedError(
            Code.LEDGER_BROKEN,
            f"{what} is stored but no ledger entry has its hash",
            "it did not come through a round; remove it, and run increment",
        )
