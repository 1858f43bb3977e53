"""What the ledger says about promotions and withdrawals: what serves, and what served before."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from shared.echo.model_card import KINDS, ModelKind
from shared.ledger import Ledger, LedgerEntry

PROMOTED = "fusion.promoted"
ROLLED_BACK = "fusion.rolled_back"
WITHDRAWAL_BEGUN = "withdrawal.begun"
WITHDRAWN = "dataset.withdrawn"
"""The certificate of a withdrawal."""
REFUSED = "fusion.refused"
MODEL_REGISTERED: Mapping[ModelKind, str] = {kind: f"{kind}.registered" for kind in KINDS}
MODEL_PROMOTED: Mapping[ModelKind, str] = {kind: f"{kind}.promoted" for kind in KINDS}


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A registered segmenter or synthesizer of which no dataset was withdrawn.

    Args:
        kind: of its card.
        model: its id.
        answers: of a segmenter, masks or contours; empty for others.
        datasets: ``site/dataset`` of each that it was trained on.
        parent: id of the model that it started from, or empty.
        aliases: what stands for it now.
    """

    kind: ModelKind
    model: str
    sha256: str
    site: str
    origin: str
    answers: str
    datasets: tuple[str, ...]
    parent: str
    registered: str
    aliases: tuple[str, ...]


def promotions(ledger: Ledger) -> tuple[str, ...]:
    """Fusions that were promoted and neither rolled back nor withdrawn, the serving one last."""
    served: list[str] = []
    for entry in ledger.entries():
        if entry.kind == PROMOTED and entry.body["fusion"] not in served[-1:]:
            served.append(str(entry.body["fusion"]))
        elif entry.kind == ROLLED_BACK:
            served.pop()
        elif entry.kind == WITHDRAWAL_BEGUN:
            served = left_serving(served, entry.body["fusions"])
    return tuple(served)


def left_serving(served: Sequence[str], gone: Collection[str]) -> list[str]:
    """What stays of the fusions that served: nothing at all where the serving one goes.

    An older fusion does not step in by itself: a person decides what serves, and promotes it.
    """
    if not served or served[-1] in gone:
        return []
    kept: list[str] = []
    for fusion in served:
        if fusion not in gone and fusion not in kept[-1:]:
            kept.append(fusion)
    return kept


def serving_fusion(ledger: Ledger) -> str | None:
    """Id of the fusion that was promoted last, None before the first."""
    served = promotions(ledger)
    return served[-1] if served else None


def served_models(ledger: Ledger) -> dict[str, ServedModel]:
    """The registered segmenters and synthesizers by id, the first one first; see ``ServedModel``.

    Where a dataset is withdrawn, its models and those that started from them are gone, and their
    aliases stand for nothing until a person decides.
    """
    known, aliases, _ = _models(ledger)
    return {
        name: replace(
            one, aliases=tuple(sorted(alias for alias, stood in aliases.items() if stood == name))
        )
        for name, one in known.items()
    }


def withdrawn_models(ledger: Ledger) -> dict[str, tuple[ServedModel, ...]]:
    """What went with each withdrawn dataset (``site/dataset``)."""
    return _models(ledger)[2]


def _models(
    ledger: Ledger,
) -> tuple[dict[str, ServedModel], dict[str, str], dict[str, tuple[ServedModel, ...]]]:
    """Those registered, what the aliases stand for, and what went with which dataset."""
    known: dict[str, ServedModel] = {}
    aliases: dict[str, str] = {}
    went: dict[str, tuple[ServedModel, ...]] = {}
    for entry in ledger.entries():
        body = entry.body
        for kind in KINDS:
            if entry.kind == MODEL_REGISTERED[kind]:
                known[body[kind]] = _model(entry, kind)
            elif entry.kind == MODEL_PROMOTED[kind]:
                aliases[body["alias"]] = body[kind]
        if entry.kind == WITHDRAWAL_BEGUN:
            gone = _going(known, str(body["dataset"]))
            went[body["dataset"]] = tuple(known.pop(name) for name in sorted(gone))
            aliases = {alias: name for alias, name in aliases.items() if name not in gone}
    return known, aliases, went


def _model(entry: LedgerEntry, kind: ModelKind) -> ServedModel:
    body = entry.body
    return ServedModel(
        kind=kind,
        model=body[kind],
        sha256=body["sha256"],
        site=body["site"],
        origin=body["origin"],
        answers=body.get("answers", ""),
        datasets=tuple(body["datasets"]),
        parent=body["parent"],
        registered=entry.time,
        aliases=(),
    )


def _going(known: Mapping[str, ServedModel], dataset: str) -> set[str]:
    """Those trained on the dataset, and by lineage those that started from one that goes."""
    gone = {name for name, one in known.items() if dataset in one.datasets}
    while found := {name for name, one in known.items() if one.parent in gone and name not in gone}:
        gone |= found
    return gone


def unfinished_withdrawals(ledger: Ledger) -> tuple[str, ...]:
    """Datasets (``site/dataset``) whose withdrawal was begun and has no certificate yet."""
    begun: dict[str, None] = {}
    for entry in ledger.entries():
        if entry.kind == WITHDRAWAL_BEGUN:
            begun[str(entry.body["dataset"])] = None
        elif entry.kind == WITHDRAWN:
            begun.pop(str(entry.body["dataset"]), None)
    return tuple(begun)
