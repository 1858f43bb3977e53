"""The verdict: what view a frame or clip shows, how sure, and which expert decided it."""

from dataclasses import dataclass
from typing import Literal

VERDICT_VERSION = 2
Doubt = Literal["unknown scanner or view", "low probability"]
"""Why a verdict abstains: nothing like the clip was seen before, or views are too close."""


@dataclass(frozen=True, slots=True)
class ExpertSay:
    """One expert's part in a verdict.

    Args:
        expert: id of the expert.
        id_score: the gate's weight of it, in [0, 1].
        contributions: its share of each union view's logit (id score x logit x pooling share).
        top_view: the view its own head prefers.
    """

    expert: str
    id_score: float
    contributions: dict[str, float]
    top_view: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Prediction, contributions and abstention for one clip.

    Args:
        view: the most probable view, also where the verdict abstains.
        probabilities: by union view, mean log-probability over the frames, normalised.
        remainder: what pooling adds to each view's logit beyond the contributions (0 for max).
        doubts: why the verdict abstains; empty where it does not.
        id_scalar: the chance that the clip is of a dataset that the fusion knows, in [0, 1]; None
            for an expert alone and for fusions that cannot say.
    """

    fusion: str
    view: str
    probabilities: dict[str, float]
    abstains: bool
    experts: tuple[ExpertSay, ...]
    remainder: dict[str, float]
    num_frames: int
    doubts: tuple[Doubt, ...] = ()
    id_scalar: float | None = None
    version: int = VERDICT_VERSION
