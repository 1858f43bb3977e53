"""Register, promote and roll back fusions: the registry moves an alias, the ledger says why."""

from datetime import UTC, datetime

from aggregator.assessment import Assessment
from aggregator.centre import Centre
from aggregator.model_registry import ModelRegistry
from aggregator.serving import PROMOTED, REFUSED, ROLLED_BACK, unfinished_withdrawals
from shared.echo.expert import load_fusion
from shared.echo.origin import mixed_origin
from shared.errors import Code, EchoFedError


def registry_of(centre: Centre) -> ModelRegistry:
    """The centre's model registry."""
    name = centre.settings.federation.name
    return ModelRegistry(centre.tracking_uri, centre.folder / "models", name=name)


def register(centre: Centre, fusion: str) -> str:
    """Register a fusion as candidate, mark its datasets as fused and return its version."""
    row = centre.state.fusion(fusion)
    card, weights = load_fusion(centre.fusion_folder(fusion))
    origins = {one["origin"] for one in row.report["datasets"].values()}
    metrics = {
        f"{name.replace('/', '.')}.macro_f1": float(one["clips"]["macro_f1"])
        for name, one in row.report["datasets"].items()
        if one["num_frames"]
    }
    origin = mixed_origin(origins)
    version = registry_of(centre).log_fusion(card, weights, metrics=metrics, origin=origin)
    centre.state.mark_fused(fusion, row.datasets.values())
    if row.model_version != version:
        centre.state.note_registered(fusion, version)
        body = {"fusion": fusion, "version": version, "sha256": card.weights_sha256}
        centre.ledger.append("fusion.registered", body, actor="centre")
    return version


def candidate_fusion(centre: Centre) -> str:
    """Id of the candidate.

    Raises:
        EchoFedError: MODEL_UNKNOWN where none is registered.
    """
    for one in registry_of(centre).versions():
        if "candidate" in one.aliases:
            return one.fusion
    raise EchoFedError(
        Code.MODEL_UNKNOWN, "no registered fusion is the candidate", "run increment or fuse"
    )


def promote(centre: Centre, assessment: Assessment, *, actor: str, reason: str) -> str:
    """Let the assessed fusion serve, if the plan and an approver it names allow it.

    Args:
        centre: the open centre.
        assessment: of the candidate, see ``assess``.
        actor: who approves.
        reason: why.

    Returns:
        The version that serves now.

    Raises:
        EchoFedError: FUSION_UNKNOWN, MODEL_UNKNOWN where it is not registered, RUN_FAILED before a
            withdrawal is finished, APPROVER_UNKNOWN or CHANGE_REFUSED with an entry in the ledger;
            the serving alias stays where it is.
    """
    _expect_no_withdrawal(centre)
    row = centre.state.fusion(assessment.candidate)
    if not row.model_version:
        raise EchoFedError(
            Code.MODEL_UNKNOWN,
            f"fusion {row.id} is not in the model registry",
            "run increment or fuse; they register what they made",
        )
    refusal = _refusal(assessment, actor)
    if refusal is not None:
        body = {**assessment.record(), "code": int(refusal.code), "reason": reason}
        centre.ledger.append(REFUSED, body, actor=actor)
        raise refusal
    promotion = registry_of(centre).promote(
        row.model_version, actor=actor, reason=reason, now=datetime.now(UTC)
    )
    body = {**assessment.record(), "version": promotion.version, "reason": reason}
    centre.ledger.append(PROMOTED, body, actor=actor)
    return promotion.version


def rollback(centre: Centre, *, actor: str, reason: str) -> tuple[str, str]:
    """Let the fusion serve that did so before and return its id and version.

    Raises:
        EchoFedError: MODEL_UNKNOWN where none served before, RUN_FAILED before a withdrawal is
            finished.
    """
    _expect_no_withdrawal(centre)
    found = registry_of(centre).rollback(actor=actor, reason=reason, now=datetime.now(UTC))
    body = {"fusion": found.fusion, "version": found.version, "reason": reason}
    centre.ledger.append(ROLLED_BACK, body, actor=actor)
    return found.fusion, found.version


def _expect_no_withdrawal(centre: Centre) -> None:
    """Between begin and certificate the registry still knows what the ledger has taken back."""
    for dataset in unfinished_withdrawals(centre.ledger):
        raise EchoFedError(
            Code.RUN_FAILED,
            f"the withdrawal of {dataset} was begun and not finished",
            f"run withdraw {dataset} once more; it goes on where it stood",
        )


def _refusal(assessment: Assessment, actor: str) -> EchoFedError | None:
    if not assessment.plan.may_approve(actor):
        return EchoFedError(
            Code.APPROVER_UNKNOWN,
            f"the change plan does not let {actor!r} approve a promotion",
            "let one of those named under approvers promote; see audit change",
        )
    if not assessment.refused:
        return None
    first, others = assessment.refused[0], len(assessment.refused) - 1
    more = f", and {others} more" if others else ""
    return EchoFedError(
        Code.CHANGE_REFUSED,
        f"fusion {assessment.candidate} does not meet the change plan: {first}{more}",
        "see audit change; wait for better experts, or have the plan's owner change it beforehand",
    )
