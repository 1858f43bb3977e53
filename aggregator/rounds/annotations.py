"""Round before the first of an averaging: what the sites' masks name, and what all shall learn."""

from collections.abc import Mapping, Sequence

from pydantic import TypeAdapter, ValidationError

from aggregator.averages import Agreement, Offered
from aggregator.cards import withdrawn_datasets
from aggregator.rounds.round import Round
from shared.echo.mask import STRUCTURES
from shared.echo.ontology import load_ontology
from shared.errors import Code, EchoFedError
from shared.payload import Payload

REQUEST = "query.annotations"
_OFFERS = TypeAdapter(tuple[Offered, ...])
Offers = Mapping[str, tuple[Offered, ...]]


def collect_offers(current: Round, datasets: Sequence[str]) -> Offers:
    """Ask the sites which datasets with masks a segmenter may learn from.

    Args:
        current: the round.
        datasets: ``site/dataset`` of those that are wanted; empty for all of all sites.

    Returns:
        Site -> what it offers, without what was withdrawn; nobody who did not answer.

    Raises:
        EchoFedError: DATASET_UNKNOWN for a site that was not admitted.
    """
    wanted = _by_site(datasets)
    admitted = sorted(site.code for site in current.centre.state.sites())
    if unknown := sorted(wanted.keys() - set(admitted)):
        raise EchoFedError(
            Code.DATASET_UNKNOWN,
            f"no site is called {', '.join(unknown)}",
            f"admitted are {', '.join(admitted) or 'none'}; write SITE/DATASET",
        )
    gone = withdrawn_datasets(current.centre)
    offers: dict[str, tuple[Offered, ...]] = {}

    def take(site: str, reply: Payload) -> None:
        current.tally.note_kept("annotations", site, current.tally.note_receipt(site, reply))
        offered = _read(reply.body.get("offers"), site)
        asked = wanted.get(site, ())
        kept = tuple(
            one
            for one in offered
            if f"{site}/{one.dataset}" not in gone and (not asked or one.dataset in asked)
        )
        offers[site] = kept

    requests = {
        site: Payload({"datasets": wanted.get(site, [])})
        for site in admitted
        if not wanted or site in wanted
    }
    current.collect(REQUEST, requests, take)
    return dict(sorted(offers.items()))


def agree(offers: Offers, *, structures: Sequence[str], views: Sequence[str]) -> Agreement:
    """What all sites learn: the union of what they name, in the house's order.

    Args:
        offers: site -> its datasets.
        structures: which are wanted; empty for all that any masks name.
        views: which are wanted; empty for all.

    Returns:
        The agreement; datasets that name none of its structures or views are left out.

    Raises:
        EchoFedError: NAME_UNKNOWN for a structure or view that no site has.
    """
    every = [one for some in offers.values() for one in some]
    known = {name for one in every for name in one.structures}
    shown = {view for one in every for view in one.views}
    for what, wanted, found in (("structure", structures, known), ("view", views, shown)):
        if missing := [name for name in wanted if name not in found]:
            raise EchoFedError(
                Code.NAME_UNKNOWN,
                f"no site's masks have the {what} {', '.join(missing)}",
                f"there are {', '.join(sorted(found)) or 'none'}",
            )
    names, seen = set(structures) or known, set(views) or shown
    sites = {
        site: tuple(one for one in some if names & set(one.structures) and seen & set(one.views))
        for site, some in offers.items()
    }
    ordered = (STRUCTURES[0], *(name for name in STRUCTURES[1:] if name in names))
    return Agreement(
        {site: some for site, some in sites.items() if some}, ordered, tuple(sorted(seen))
    )


def _by_site(datasets: Sequence[str]) -> dict[str, list[str]]:
    wanted: dict[str, list[str]] = {}
    for name in sorted(set(datasets)):
        site, _, dataset = name.partition("/")
        wanted.setdefault(site, []).append(dataset)
    return wanted


def _read(document: object, site: str) -> tuple[Offered, ...]:
    try:
        offers = _OFFERS.validate_python(document)
    except ValidationError as error:
        raise EchoFedError(
            Code.WIRE_INVALID,
            f"what site {site!r} says of its masks does not fit",
            "both ends should run the same release",
        ) from error
    views = load_ontology().views
    if any(
        set(one.structures) - set(STRUCTURES[1:]) or set(one.views) - views.keys() for one in offers
    ):
        raise EchoFedError(
            Code.WIRE_INVALID,
            f"the masks of site {site!r} have structures or views that this release does not know",
            "both ends should run the same release",
        )
    return offers
