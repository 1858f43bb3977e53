"""Runs of federated averaging on disk: after each whole round what was agreed, done and averaged.

A run's folder holds the weights, named by their hash, and a course that names them; the course is
written last, so that a centre that died goes on from the last whole round.
"""

import logging
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aggregator.centre import Centre
from aggregator.settings import AveragingSettings
from shared.echo.expert import CARD_FILE
from shared.echo.origin import Origin
from shared.echo.schema import from_document, to_document
from shared.echo.segmenter import SegmenterCard, load_segmenter_files, save_segmenter
from shared.errors import Code, EchoFedError
from shared.files import read_json, sha256_hex, write_bytes, write_json
from shared.settings import hash_settings

log = logging.getLogger(__name__)
COURSE_VERSION = 1
_COURSE_FILE = "course.json"
_RESULT = "segmenter"


@dataclass(frozen=True, slots=True)
class Offered:
    """A dataset that a site lets the federation learn from."""

    dataset: str
    hash: str
    origin: Origin
    structures: tuple[str, ...]
    views: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """What all sites of a run learn.

    Args:
        sites: site -> its datasets.
        structures: to tell apart, background first, in the house's order.
        views: that any site has, in alphabetical order.
    """

    sites: dict[str, tuple[Offered, ...]]
    structures: tuple[str, ...]
    views: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """What one site gave to a round.

    Args:
        datasets: that it learnt from.
        num_frames: that it learnt from, its weight in the average.
        came: validation figures of the weights that it was sent.
        learnt: of those that it sent back.
    """

    datasets: tuple[str, ...]
    num_frames: int
    came: dict[str, float]
    learnt: dict[str, float]


@dataclass(frozen=True, slots=True)
class WholeRound:
    """A round whose average is stored.

    Args:
        shares: by site.
        absent: site -> name of the code.
        refused: what was not given, by whom and why.
        seconds: wall-clock time.
        site_seconds: what each site says that it took.
    """

    shares: dict[str, Share]
    absent: dict[str, str]
    refused: tuple[dict[str, Any], ...]
    seconds: float
    bytes_in: int
    bytes_out: int
    site_seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Course:
    """A run of averaging up to its last whole round.

    Args:
        run: its name.
        weights_sha256: of the average.
    """

    run: str
    agreement: Agreement
    weights_sha256: str
    rounds: tuple[WholeRound, ...] = field(default=())
    version: int = COURSE_VERSION

    def learnt_from(self) -> dict[str, Offered]:
        """``site/dataset`` of everything that the average holds."""
        given = {
            (site, name)
            for one in self.rounds
            for site, share in one.shares.items()
            for name in share.datasets
        }
        return {
            f"{site}/{offered.dataset}": offered
            for site, some in sorted(self.agreement.sites.items())
            for offered in some
            if (site, offered.dataset) in given
        }

    def after(self, whole: WholeRound, weights_sha256: str) -> "Course":
        """The course with one more round."""
        return replace(self, rounds=(*self.rounds, whole), weights_sha256=weights_sha256)


def run_name(settings: AveragingSettings, datasets: tuple[str, ...], num_rounds: int) -> str:
    """The name that stands for everything that was asked of a run."""
    text = " ".join([hash_settings(settings), str(num_rounds), *sorted(datasets)])
    return f"average-{sha256_hex(text.encode())[:16]}"


def load_course(centre: Centre, run: str) -> Course | None:
    """Where a run stands, None before its first weights.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT, CARD_NEWER.
    """
    path = centre.average_folder(run) / _COURSE_FILE
    if not path.is_file():
        return None
    return from_document(Course, read_json(path), version=COURSE_VERSION)


def load_average(centre: Centre, course: Course) -> bytes:
    """The weights of the last whole round.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT.
    """
    path = _weights(centre, course)
    weights = path.read_bytes() if path.is_file() else b""
    if sha256_hex(weights) != course.weights_sha256:
        raise EchoFedError(
            Code.CHECKPOINT_CORRUPT,
            f"the weights of {course.run} are not those of its last whole round",
            f"delete the folder {course.run} under averages and average again",
        )
    return weights


def save_course(centre: Centre, course: Course, weights: bytes) -> None:
    """Store a whole round: the weights, then the course that names them, then drop the others.

    Raises:
        EchoFedError: DISK_FULL; the round before stays.
    """
    path = _weights(centre, course)
    write_bytes(path, weights)
    write_json(path.parent / _COURSE_FILE, to_document(course))
    for other in path.parent.glob("*.safetensors"):
        if other != path:
            other.unlink()


def load_result(centre: Centre, run: str) -> SegmenterCard | None:
    """The card of a run that is finished, None for any other."""
    folder = result_folder(centre, run)
    return load_segmenter_files(folder)[0] if (folder / CARD_FILE).is_file() else None


def save_result(centre: Centre, run: str, card: SegmenterCard, weights: bytes) -> None:
    """Store what a run came to."""
    save_segmenter(result_folder(centre, run), card, weights)


def result_folder(centre: Centre, run: str) -> Path:
    """Where card and weights of a finished run lie."""
    return centre.average_folder(run) / _RESULT


def drop_run(centre: Centre, run: str) -> None:
    """Delete a run with all that it averaged; the course last, for it says what that was."""
    folder = centre.average_folder(run)
    shutil.rmtree(folder / _RESULT, ignore_errors=True)
    for path in folder.glob("*.safetensors"):
        path.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def drop_runs_of(centre: Centre, dataset: str) -> tuple[str, ...]:
    """Delete the runs that hold ``site/dataset`` and those that cannot be read; their names."""
    gone = []
    for folder in sorted((centre.folder / "averages").glob("*")):
        try:
            course = load_course(centre, folder.name)
        except EchoFedError as error:
            log.warning("run %s goes as well: %s", folder.name, error)
            course = None
        if course is None or dataset in course.learnt_from():
            drop_run(centre, folder.name)
            gone.append(folder.name)
    return tuple(gone)


def _weights(centre: Centre, course: Course) -> Path:
    return centre.average_folder(course.run) / f"{course.weights_sha256}.safetensors"
