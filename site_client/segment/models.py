"""The segmenters of a site, by id or by what they are called, ready to answer in this process."""

from collections.abc import Sequence

from shared.errors import Code, EchoFedError
from shared.segmentation.answer import Segmenters
from shared.segmentation.segmenter import Segmenter, build_forward
from shared.services.segmenters import PARTS
from site_client.models import load_trusted
from site_client.store import SiteStore


def open_segmenters(store: SiteStore, names: Sequence[str], *, site: str) -> Segmenters:
    """Open the named segmenters, at most one of masks and one of contours.

    Args:
        store: the site's.
        names: ids or aliases; empty for those that ``PARTS`` stand for here.
        site: site code, whose own segmenters need no signature.

    Raises:
        EchoFedError: MODEL_UNKNOWN where there is none, CONFIG_INVALID for two of one kind, and as
            ``load_trusted``.
    """
    chosen = [store.aliased(name) or name for name in names] or _aliased(store)
    opened: dict[str, Segmenter] = {}
    for name in dict.fromkeys(chosen):
        card, weights = load_trusted(store, name, site=site)
        if card.answers in opened:
            raise EchoFedError(
                Code.CONFIG_INVALID,
                f"{opened[card.answers].card.id} and {card.id} both give {card.answers}",
                "name one segmenter of masks and one of contours at most",
            )
        opened[card.answers] = Segmenter(card, build_forward(card, weights))
    return Segmenters(opened.get("masks"), opened.get("contours"))


def _aliased(store: SiteStore) -> list[str]:
    """What the usual aliases stand for here."""
    known = [store.aliased(alias) for alias in PARTS]
    found = [name for name in known if name is not None]
    if found:
        return found
    own = ", ".join(store.segmenters())
    raise EchoFedError(
        Code.MODEL_UNKNOWN,
        f"nothing here is called {' or '.join(PARTS)}",
        f"name one of the site's with --segmenter: {own}"
        if own
        else f"fetch the centre's: echofed-site fetch-model {PARTS[0]}; or train one: "
        "echofed-site train --set task=segmentation",
    )
