"""What the demo does, as settings: hospitals, sizes, and how experts and fusion are trained."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from shared.phantom.hospital import HospitalSpec
from shared.settings import Settings

Positive = Annotated[int, Field(gt=0)]


class Hospital(Settings):
    """One virtual hospital."""

    name: str
    """Site code."""
    scanner: str
    """Scanner preset."""
    labels: dict[str, str | tuple[str, ...]]
    """What it calls the views."""


class DemoPlan(Settings):
    """An experiment of several hospitals, the last of which joins later."""

    seed: int
    """Seed of the phantom and of every training."""
    size_HW: tuple[int, int]
    """Rows and columns of the DICOM pictures."""
    hospitals: tuple[Hospital, ...]
    """Sites of the first increment."""
    newcomer: Hospital
    """Site of the second increment."""
    train_patients: Positive
    """Patients a hospital trains on."""
    val_patients: Positive
    """Patients a hospital stops training by."""
    test_patients: Positive
    """Patients a hospital is scored on."""
    clips_per_view: Positive
    """Clips of every view of every patient."""
    frames_per_clip: Positive
    """Frames in a clip."""
    screen_correlation: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How much the screen tells of the view."""
    change: dict[str, Any]
    """The centre's change plan; its first approver promotes."""
    ingest: dict[str, Any] = Field(default_factory=dict)
    """Settings of every site's ingest."""
    expert: dict[str, Any] = Field(default_factory=dict)
    """Settings of every expert, and of the pooled and fine-tuned networks."""
    extract: dict[str, Any] = Field(default_factory=dict)
    """Settings of every site's extraction."""
    fusion: dict[str, Any] = Field(default_factory=dict)
    """Settings of the centre's fusion."""

    @property
    def num_patients(self) -> int:
        """Patients of a hospital."""
        return self.train_patients + self.val_patients + self.test_patients

    def everyone(self) -> tuple[Hospital, ...]:
        """All hospitals in the order in which they come."""
        return (*self.hospitals, self.newcomer)

    def spec(self, place: int) -> HospitalSpec:
        """The phantom hospital at a place in that order; patients of different hospitals differ."""
        hospital = self.everyone()[place]
        return HospitalSpec(
            name=hospital.name,
            scanner=hospital.scanner,
            labels=hospital.labels,
            num_patients=self.num_patients,
            clips_per_view=self.clips_per_view,
            frames_per_clip=self.frames_per_clip,
            size_HW=self.size_HW,
            screen_correlation=self.screen_correlation,
            seed=self.seed,
            first_patient=10_000 * place,
        )

    def site_overrides(self) -> list[str]:
        """``--set`` options of a site."""
        fractions = {
            "val_fraction": self.val_patients / self.num_patients,
            "test_fraction": self.test_patients / self.num_patients,
        }
        parts = {
            "ingest": {**fractions, **self.ingest},
            "expert": {"seed": self.seed, **self.expert},
            "extract": self.extract,
        }
        return flatten(parts)


def flatten(parts: dict[str, dict[str, Any]]) -> list[str]:
    """``--set a.b=c`` for a tree of two levels."""
    return [
        word
        for name, tree in parts.items()
        for key, value in tree.items()
        for word in (
            "--set",
            f"{name}.{key}={str(value).lower() if isinstance(value, bool) else value}",
        )
    ]


def dataset_of(hospital: str) -> str:
    """Name of a hospital's dataset."""
    return f"{hospital}-echo"


def data_of(out: Path, hospital: str) -> Path:
    """Folder of a hospital's DICOM files."""
    return out / "data" / hospital
