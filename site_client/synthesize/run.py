"""A synthetic dataset: label maps are ordered a few at a time, and what is drawn becomes clips.

Clips and the journal of their places are written first, the manifest last: until it stands, the
dataset does not exist, and running again goes on behind the last image that was drawn.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from datetime import datetime

import numpy as np

from shared.echo.mask import OUTSIDE
from shared.echo.model_name import ModelName
from shared.errors import Code, EchoFedError
from shared.seeding import derive_seed
from shared.synthesis.order import Drawing, Order, Part, Variation
from site_client.deidentify import Pseudonyms
from site_client.journal import Journal, JournalEntry
from site_client.origins import expect_same_origin
from site_client.store import SiteStore, require_name
from site_client.synthesize.clips import Place, keep_drawing
from site_client.synthesize.manifest import finish
from site_client.synthesize.maps import MapSource
from site_client.synthesize.request import SynthesisReport, SynthesisRequest

Ask = Callable[[Order], Iterator[Part]]
"""Who draws: this process, the hospital's own service, or the centre's."""
Advance = Callable[[int, str], None]
PIECE = 8
"""Images of an order; fewer are drawn again after a kill."""


def synthesize(
    store: SiteStore,
    request: SynthesisRequest,
    maps: MapSource,
    ask: Ask,
    *,
    now: datetime,
    advance: Advance = lambda units, note: None,
) -> SynthesisReport:
    """Draw what is not there yet, store it, and write the manifest.

    Args:
        store: the site's.
        request: what shall be drawn.
        maps: what it is drawn from.
        ask: draws an order.
        now: aware time, for the manifest.
        advance: told of each image, and how many were refused.

    Raises:
        EchoFedError: ALREADY_EXISTS for a dataset that was drawn otherwise, ORIGIN_UNFIT for one of
            patients or phantoms, NOTHING_INGESTED where no image may be kept, IDENTITY_MISMATCH
            where the model became another one, DISK_FULL, and what ``ask`` raises; the manifest is
            not written then.
    """
    require_name(request.dataset)
    expect_same_origin(store, request.dataset, "synthetic")
    keys = _keys(Pseudonyms(store.key()), request, maps)
    _expect_same_request(store, request.dataset, keys)
    journal = store.journal(request.dataset)
    known = _known(store, request.dataset, journal, keys)
    num_known, num_refused = len(known), sum(one.record is None for one in known.values())
    advance(num_known, "")
    models = _models(known.values())
    for first in range(0, request.num, PIECE):
        places = range(first, min(first + PIECE, request.num))
        if all(keys[place] in known for place in places):
            continue
        for entry in _piece(store, request, maps, ask, places=places, keys=keys):
            if entry.mark in known:
                continue
            models |= _models([entry])
            _expect_one_model(models, journal)
            journal.add(entry)
            known[entry.mark] = entry
            num_refused += entry.record is None
            advance(1, f"{num_refused} refused" if num_refused else "")
    journal.keep(set(keys))
    return finish(store, request, maps, known.values(), num_known=num_known, now=now)


def _keys(pseudonyms: Pseudonyms, request: SynthesisRequest, maps: MapSource) -> list[str]:
    """A key for each place; another request has others."""
    told = json.dumps({**request.told(), "maps": maps.name}, sort_keys=True)
    return [pseudonyms.clip(f"{told} {place}".encode(), "sector") for place in range(request.num)]


def _expect_same_request(store: SiteStore, dataset: str, keys: Sequence[str]) -> None:
    if dataset not in store.datasets():
        return
    if not {clip.key for clip in store.manifest(dataset).clips} <= set(keys):
        raise EchoFedError(
            Code.ALREADY_EXISTS,
            f"dataset {dataset} holds other images than those asked for",
            "give the new one another name; the same request with a larger --num adds to it",
        )


def _known(
    store: SiteStore, dataset: str, journal: Journal, keys: Sequence[str]
) -> dict[str, JournalEntry]:
    """What an earlier run has done, by key."""
    entries = journal.entries()
    found = {key: entries[key] for key in keys if key in entries}
    return {
        key: entry
        for key, entry in found.items()
        if entry.record is None or store.holds(dataset, entry.record)
    }


def _models(entries: Iterable[JournalEntry]) -> set[str]:
    """Hashes of what drew the clips."""
    stamps = [entry.record.synthesis for entry in entries if entry.record is not None]
    return {stamp.weights_sha256 for stamp in stamps if stamp is not None}


def _expect_one_model(models: Set[str], journal: Journal) -> None:
    """Refuse to mix what two models drew; then nothing is known any more."""
    if len(models) > 1:
        journal.rewrite(())
        raise EchoFedError(
            Code.IDENTITY_MISMATCH,
            "another synthesizer goes by that name since the dataset was begun",
            "run the same again: all images are drawn anew",
        )


def _piece(
    store: SiteStore,
    request: SynthesisRequest,
    maps: MapSource,
    ask: Ask,
    *,
    places: range,
    keys: Sequence[str],
) -> Iterator[JournalEntry]:
    """What became of the places of one order; their seeds depend on the request alone."""
    rows: dict[int, Place] = {}
    for place in places:
        try:
            rows[place] = Place(keys[place], maps.at(place))
        except EchoFedError as error:
            yield _implausible(keys[place], error)
    yield from _drawn(store, request, maps.structures, ask, rows)


def _drawn(
    store: SiteStore,
    request: SynthesisRequest,
    structures: tuple[str, ...],
    ask: Ask,
    rows: Mapping[int, Place],
) -> Iterator[JournalEntry]:
    """What became of maps that are drawn together; one by one where a host refuses some of them."""
    if not rows:
        return
    try:
        answers = _answers(ask(_order(request, structures, rows)), rows)
        for row, drawing, model in answers:
            yield keep_drawing(store, request, row, drawing, model)
    except EchoFedError as error:
        if len(rows) == 1:
            yield _implausible(next(iter(rows.values())).key, error)
            return
        if error.code is not Code.MAP_IMPLAUSIBLE:
            raise
        for number, one in rows.items():
            yield from _drawn(store, request, structures, ask, {number: one})


def _answers(
    parts: Iterator[Part], rows: Mapping[int, Place]
) -> Iterator[tuple[Place, Drawing, ModelName]]:
    """What was drawn at which place, and by what; who draws may be of another release.

    Raises:
        EchoFedError: WIRE_INVALID where the images are not those that were asked for.
    """
    left = dict(enumerate(rows.values()))  # by their places in the order
    model: ModelName | None = None
    for part in parts:
        if isinstance(part, ModelName):
            model = part
        elif model is None or part.place not in left or part.map.names[0] != OUTSIDE:
            raise _strange_answer()
        else:
            yield left.pop(part.place), part, model
    if left:
        raise _strange_answer()


def _strange_answer() -> EchoFedError:
    return EchoFedError(
        Code.WIRE_INVALID,
        "who draws has not answered with the images that were asked for",
        "update the older of the two ends",
    )


def _implausible(key: str, error: EchoFedError) -> JournalEntry:
    """The note of a map that no heart could have.

    Raises:
        EchoFedError: any other fault again.
    """
    if error.code is not Code.MAP_IMPLAUSIBLE:
        raise error
    return JournalEntry(key, code=error.code.name, reason=error.message)


def _order(
    request: SynthesisRequest, structures: tuple[str, ...], rows: Mapping[int, Place]
) -> Order:
    """Each map once as it is; as many hearts of the host's where it makes them."""
    sent = [row.map.labels_SS for row in rows.values() if row.map.labels_SS is not None]
    first = min(rows)
    hearts = Variation(len(rows), derive_seed(request.seed, "hearts", first))
    return Order(
        request.view, request.model, np.stack(sent) if sent else None, structures,
        None if sent else hearts, seed=derive_seed(request.seed, "order", first),
        solver=request.solver, steps=request.steps, guidance=request.guidance,
    )  # fmt: skip
