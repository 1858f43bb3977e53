"""A run of federated averaging: agree, round after round, then ask how good the average is.

Each whole round is stored before the next, so that a run that died is taken up by the same call.
"""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

from aggregator.averages import (
    Agreement,
    Course,
    WholeRound,
    drop_run,
    load_average,
    load_course,
    load_result,
    result_folder,
    run_name,
    save_course,
    save_result,
)
from aggregator.cards import withdrawn_datasets
from aggregator.centre import Centre
from aggregator.rounds.annotations import Offers, agree, collect_offers
from aggregator.rounds.average import average_updates, collect_figures, collect_updates
from aggregator.rounds.round import Ask, Round, Tally
from aggregator.settings import AveragingSettings
from shared.echo.origin import mixed_origin
from shared.echo.schema import to_document
from shared.echo.segmenter import SegmenterCard
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from shared.models import SEGMENTERS
from shared.models.backbone import pack_tensors
from shared.models.drawn import draw_segmenter
from shared.seeding import derive_seed
from shared.settings import dump_settings, flatten, hash_settings

log = logging.getLogger(__name__)
_HASH_LETTERS = 8
_SEEDS = 2**32  # canonical JSON holds no more than 53 bits
_LOWEST = 1 / 25  # of the learning rate in the last round
_OUTLINED = ("lv",)  # what a contour encloses
_HERE = ("schedule", "minimum_sites", "structures", "views")  # settings that no site is sent


def run_averaging(
    centre: Centre, ask: Ask, *, datasets: Sequence[str], num_rounds: int
) -> dict[str, Any]:
    """Run or resume an averaging up to its evaluated segmenter.

    Args:
        centre: the open centre.
        ask: sends requests and collects outcomes.
        datasets: ``site/dataset`` to learn from; empty for all that the sites let be learnt from.
        num_rounds: how many rounds.

    Returns:
        What was done, for the operator, and where the segmenter lies.

    Raises:
        EchoFedError: NOTHING_TO_DO where too few sites offer masks, RUN_FAILED for a round that too
            few took part in (the same call goes on), DATASET_WITHDRAWN for a dataset that was taken
            back meanwhile (the same call begins anew without it), NAME_UNKNOWN, DISK_FULL.
    """
    settings = centre.settings.segmenter
    run = run_name(settings, tuple(datasets), num_rounds)
    start = _round(centre, ask, run)
    offers = collect_offers(start, datasets)
    course = _course(centre, run, offers, start)
    while len(course.rounds) < num_rounds:
        course = _next_round(centre, ask, course, num_rounds)
    card = load_result(centre, run) or _finish(centre, ask, course)
    last = course.rounds[-1]
    return {
        "run": run,
        "segmenter": card.id,
        "folder": str(result_folder(centre, run)),
        "sites": list(course.agreement.sites),
        "datasets": list(card.datasets),
        "structures": list(card.structures),
        "views": list(card.views),
        "metrics": card.metrics,
        "rounds": [to_document(one) for one in course.rounds],
        "absent": start.tally.absent | last.absent,
        "refused": [*start.tally.refused, *last.refused],
    }


def learning_rate(settings: AveragingSettings, done: int, num_rounds: int) -> float:
    """Rate of the next round: constant, or half a cosine from the setting down to a 25th of it."""
    if settings.schedule == "constant" or num_rounds == 1:
        return settings.learning_rate
    fall = (1 - math.cos(math.pi * done / (num_rounds - 1))) / 2
    return settings.learning_rate * (1 - (1 - _LOWEST) * fall)


def round_settings(settings: AveragingSettings, done: int, num_rounds: int) -> dict[str, Any]:
    """What the sites take from the centre in the next round."""
    said = {name: value for name, value in dump_settings(settings).items() if name not in _HERE}
    seed = derive_seed(settings.seed, "round", done) % _SEEDS
    return {**said, "learning_rate": learning_rate(settings, done, num_rounds), "seed": seed}


def _course(centre: Centre, run: str, offers: Offers, start: Round) -> Course:
    """The run where it stands, or its beginning."""
    course = load_course(centre, run)
    if course is not None and (why := _stale(centre, course, offers)):
        log.warning("%s begins anew: %s", run, why)
        drop_run(centre, run)
        course = None
    if course is not None:
        return course
    settings = centre.settings.segmenter
    agreement = agree(offers, structures=settings.structures, views=settings.views)
    if len(agreement.sites) < settings.minimum_sites:
        raise EchoFedError(
            Code.NOTHING_TO_DO,
            f"{len(agreement.sites)} of at least {settings.minimum_sites} sites let a segmenter "
            f"learn from their masks{_why(start.tally)}",
            "their policies must allow segmenter_weights for segmentation; ask again later",
        )
    weights = _first_weights(settings, agreement)
    course = Course(run, agreement, sha256_hex(weights))
    save_course(centre, course, weights)
    return course


def _stale(centre: Centre, course: Course, offers: Offers) -> str:
    """Why a run cannot go on: what it learnt from was withdrawn or is another dataset now."""
    held = course.learnt_from()
    if gone := sorted(held.keys() & withdrawn_datasets(centre)):
        return f"{', '.join(gone)} was withdrawn"
    for site, some in offers.items():
        now = {f"{site}/{one.dataset}": one.hash for one in some}
        for name, offered in held.items():
            if name.startswith(f"{site}/") and now.get(name) != offered.hash:
                return f"{name} has changed, or may not be learnt from any more"
    return ""


def _first_weights(settings: AveragingSettings, agreement: Agreement) -> bytes:
    is_masks = SEGMENTERS[settings.network].answers == "masks"
    num_outputs = len(agreement.structures) if is_masks else settings.num_landmarks
    network = draw_segmenter(settings.network, num_outputs, _options(settings), seed=settings.seed)
    return pack_tensors(network.state_dict())


def _options(settings: AveragingSettings) -> dict[str, int]:
    return {"width": settings.width, "depth": settings.depth, "patch": settings.patch}


def _next_round(centre: Centre, ask: Ask, course: Course, num_rounds: int) -> Course:
    """One more whole round, stored."""
    settings, done = centre.settings.segmenter, len(course.rounds)
    began = time.monotonic()
    current = _round(centre, ask, course.run)
    said = round_settings(settings, done, num_rounds)
    updates = collect_updates(current, course.agreement, said, load_average(centre, course))
    tally = current.tally
    _expect_nothing_withdrawn(centre, course, tally)
    if len(updates) < settings.minimum_sites:
        raise EchoFedError(
            Code.RUN_FAILED,
            f"in round {done + 1} {len(updates)} of at least {settings.minimum_sites} sites gave "
            f"weights{_why(tally)}",
            f"run the same command again; it goes on after round {done}",
        )
    weights = average_updates(updates, server_round=done + 1)
    whole = WholeRound(
        shares={site: update.share for site, update in updates.items()},
        absent=tally.absent,
        refused=tuple(tally.refused),
        seconds=round(time.monotonic() - began, 3),
        bytes_in=tally.bytes_in,
        bytes_out=tally.bytes_out,
        site_seconds=tally.site_seconds,
    )
    later = course.after(whole, sha256_hex(weights))
    body = {"run": course.run, "round": done + 1, "sites": sorted(updates)}
    body |= {"sha256": later.weights_sha256}
    centre.ledger.append("segmenter.averaged", body, actor="centre")
    save_course(centre, later, weights)
    log.info("round %d of %d in %.1f s", done + 1, num_rounds, whole.seconds)
    return later


def _expect_nothing_withdrawn(centre: Centre, course: Course, tally: Tally) -> None:
    """An average cannot forget: where a dataset in it is taken back, it goes as a whole."""
    gone = {
        f"{one['site']}/{one['dataset']}"
        for one in tally.refused
        if one["code"] == int(Code.DATASET_WITHDRAWN) and "dataset" in one
    }
    if held := sorted(gone & course.learnt_from().keys()):
        drop_run(centre, course.run)
        raise EchoFedError(
            Code.DATASET_WITHDRAWN,
            f"{', '.join(held)} was taken back after it had been averaged; the average is deleted",
            "run withdraw for it, then the same command: it begins anew without it",
        )


def _finish(centre: Centre, ask: Ask, course: Course) -> SegmenterCard:
    """Ask every site how good the average is, and write its card."""
    settings, weights = centre.settings.segmenter, load_average(centre, course)
    num_rounds = len(course.rounds)
    said = round_settings(settings, num_rounds - 1, num_rounds)
    figures = collect_figures(_round(centre, ask, course.run), course.agreement, said, weights)
    card = average_card(centre, course, figures, now=_now())
    save_result(centre, course.run, card, weights)
    return card


def average_card(
    centre: Centre, course: Course, figures: Mapping[str, Mapping[str, float]], *, now: datetime
) -> SegmenterCard:
    """The card of an averaged segmenter; its site is the federation.

    Args:
        centre: the open centre.
        course: the whole run.
        figures: site -> validation figures of the average; told by site and in their mean.
        now: time that the card is dated with.
    """
    settings, site = centre.settings.segmenter, centre.settings.federation.name
    held, sha256 = course.learnt_from(), course.weights_sha256
    answers = SEGMENTERS[settings.network].answers
    names = sorted({name for one in figures.values() for name in one})
    means = {name: fmean(one[name] for one in figures.values() if name in one) for name in names}
    by_site = {f"{at}/{name}": value for at, one in figures.items() for name, value in one.items()}
    counts = {
        "rounds": float(len(course.rounds)),
        "train_frames": float(sum(s.num_frames for s in course.rounds[-1].shares.values())),
        "seconds": sum(one.seconds for one in course.rounds),
    }
    return SegmenterCard(
        id=f"{site}-{settings.network}-{sha256[:_HASH_LETTERS]}",
        site=site,
        datasets=tuple(held),
        dataset_hashes=tuple(one.hash for one in held.values()),
        origin=mixed_origin(one.origin for one in held.values()),
        answers=answers,
        network=settings.network,
        options=_options(settings),
        image_size=settings.image_size,
        structures=course.agreement.structures if answers == "masks" else _OUTLINED,
        num_landmarks=0 if answers == "masks" else settings.num_landmarks,
        views=course.agreement.views,
        weights_sha256=sha256,
        parent="",
        seed=settings.seed,
        settings_hash=hash_settings(settings),
        settings=flatten(dump_settings(settings)),
        metrics={**means, **by_site, **counts},
        created=now.isoformat(timespec="seconds"),
    )


def _round(centre: Centre, ask: Ask, run: str) -> Round:
    return Round(centre, ask, Tally(centre.ledger, run), _now)


def _why(tally: Tally) -> str:
    """Who was absent and what was refused, for the message of a failure."""
    parts = [f"{site} is absent" for site in sorted(tally.absent)]
    parts += [f"{one['message']}: {Code(one['code']).name}" for one in tally.refused]
    return f" ({'; '.join(parts)})" if parts else ""


def _now() -> datetime:
    return datetime.now(UTC)
