"""What a stream is made of: virtual sites in the order in which they come, and how they train."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from shared.echo.origin import ImagedOrigin
from shared.errors import Code, EchoFedError
from shared.settings import Settings

Positive = Annotated[int, Field(gt=0)]
PLAN_FILE = Path(__file__).parent / "streams.yaml"
"""The plan that is used where none is named."""


class PhantomSource(Settings):
    """A virtual hospital."""

    scanner: str
    """Scanner preset."""
    labels: dict[str, str | tuple[str, ...]]
    """What it calls the views."""


class PublicSource(Settings):
    """Patients of a public set, whose folder lies in ``ECHOFED_REAL_DATA``."""

    folder: str
    """Name of the set's folder."""
    view: str = ""
    """What its pictures show, where all show the same."""
    views: dict[str, str] = Field(default_factory=dict)
    """Else by the word in the column ``label``; taken are patients who have just these words."""
    where: dict[str, str] = Field(default_factory=dict)
    """Columns of manifest.csv that must hold these words."""
    patients: tuple[int, int] | None = None
    """First and last patient by the number in the patient's name; None for all."""
    share: tuple[float, float] = (0.0, 1.0)
    """Which part of the patients in an order drawn by the stream's seed."""
    test_patients: tuple[int, int] | None = None
    """First and last patient of the test part; None draws a quarter, and an eighth to validate."""


class StreamSite(Settings):
    """One dataset of one site."""

    name: str
    """Site code."""
    phantom: PhantomSource | None = None
    """Where its pictures come from: a virtual hospital,"""
    public: tuple[PublicSource, ...] = ()
    """or parts of public sets."""
    level: Literal["rows", "statistics"] = "rows"
    """At which level it exports."""
    is_foreign: bool = False
    """Never trained on, only looked at."""


class StreamPlan(Settings):
    """One stream."""

    name: str
    """Name of the stream; its folder."""
    origin: ImagedOrigin
    """Every table says which."""
    sites: tuple[StreamSite, ...]
    """In the order in which they come; foreign ones last."""
    size_HW: tuple[Positive, Positive] = (240, 320)
    """Rows and columns of phantom pictures."""
    train_patients: Positive = 60
    """Patients a virtual hospital trains on."""
    val_patients: Positive = 8
    """Patients a virtual hospital stops training by."""
    test_patients: Positive = 40
    """Patients a virtual hospital is scored on."""
    frames_per_clip: Positive = 2
    """Frames in a clip of the phantom; one clip of every view of every patient."""
    minimum_patients_per_view: Positive = 5
    """In the policy of every site."""
    ingest: dict[str, Any] = Field(default_factory=dict)
    """Settings of every site's ingest."""
    expert: dict[str, Any] = Field(default_factory=dict)
    """Settings of every expert and of the joint network."""
    extract: dict[str, Any] = Field(default_factory=dict)
    """Settings of every site's extraction."""


class StreamsPlan(Settings):
    """Which streams, and with which seeds."""

    seeds: tuple[int, ...]
    """Seeds of phantoms, splits and trainings."""
    streams: tuple[StreamPlan, ...]
    """All streams."""


def choose_streams(plan: StreamsPlan, names: Sequence[str]) -> tuple[StreamPlan, ...]:
    """The streams of these names; all where none is named.

    Raises:
        EchoFedError: NAME_UNKNOWN.
    """
    known = {stream.name: stream for stream in plan.streams}
    for name in names:
        if name not in known:
            raise EchoFedError(
                Code.NAME_UNKNOWN, f"no stream {name!r}", f"choose of {', '.join(known)}"
            )
    return tuple(known[name] for name in names or known)
