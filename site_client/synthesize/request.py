"""What a person asks for, and what came of it."""

from dataclasses import dataclass
from typing import Any

from shared.echo.manifest import DatasetManifest
from shared.echo.model_name import ModelName
from shared.errors import Code, EchoFedError
from shared.synthesis.order import MAX_IMAGES

_MOST_SEED = 2**53  # more does not fit in the ledger's canonical JSON


@dataclass(frozen=True, slots=True)
class SynthesisRequest:
    """A dataset to be drawn.

    Args:
        dataset: its name at this site.
        model: alias or id of the synthesizer, where the images are drawn.
        val_fraction: share of the patients for validation, where they have no split yet.
        at: where they are drawn: ``here``, ``site`` or ``centre``.
        view: id of the view.
        num: images asked for.
        seed: of maps, warps and noise.
        solver, steps, guidance: the synthesizer's own where None.
    """

    dataset: str
    site: str
    model: str
    view: str
    num: int
    seed: int
    val_fraction: float
    at: str = "here"
    solver: str | None = None
    steps: int | None = None
    guidance: float | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that make no dataset."""
        if not 1 <= self.num <= MAX_IMAGES:
            raise EchoFedError(
                Code.CONFIG_INVALID, f"{self.num} images are asked for", f"1 to {MAX_IMAGES}"
            )
        if not 0 <= self.seed < _MOST_SEED:
            raise EchoFedError(
                Code.CONFIG_INVALID, f"{self.seed} is no seed", "take one from 0 to 2^53"
            )

    def told(self) -> dict[str, Any]:
        """What decides how each image looks, as the ledger takes it."""
        return {
            "model": self.model,
            "view": self.view,
            "seed": self.seed,
            "solver": self.solver or "",
            "steps": self.steps or 0,
            "guidance": "" if self.guidance is None else repr(self.guidance),
        }


@dataclass(frozen=True, slots=True)
class SynthesisReport:
    """What came of it.

    Args:
        maps: where the label maps are from.
        refused: images that are not in the dataset, by the code of why.
        num_known: images that an earlier run had drawn.
    """

    manifest: DatasetManifest
    request: SynthesisRequest
    model: ModelName
    maps: str
    refused: dict[str, int]
    num_known: int
    changed: bool

    def document(self) -> dict[str, Any]:
        """Counts for a person and the ledger; nothing of a patient."""
        clips = self.manifest.clips
        return {
            "dataset": self.manifest.id,
            "synthesizer": self.model.id,
            "at": self.request.at,
            "sha256": self.model.sha256,
            "maps": self.maps,
            **self.request.told(),
            "asked": self.request.num,
            "drawn": len(clips),
            "refused": self.refused,
            "clips": {name: sum(c.split == name for c in clips) for name in ("train", "val")},
            "patients": {
                name: self.manifest.num_patients(c for c in clips if c.split == name)
                for name in ("train", "val")
            },
            "content_sha256": self.manifest.content_hash(),
        }
