"""The platform's own fusions as methods of the benchmark."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aggregator.benchmark.stage import Stage, Teller
from aggregator.fusion.evaluate import fuse_rows
from aggregator.fusion.fit import fit_union_head
from aggregator.fusion.moments import condense_datasets
from aggregator.fusion.rows import held_out_rows
from aggregator.fusion.train import Provenance, train_fusions
from aggregator.joined_rows import DatasetRows, JoinedRows
from aggregator.settings import FusionSettings
from shared.echo.expert import FusionVariant
from shared.evidence.rows import MIN_PATIENTS
from shared.models.fusion_weights import FusionModel


@dataclass(frozen=True, slots=True, eq=False)
class FusedTeller:
    """A fusion that tells views."""

    fusion: FusionModel

    @property
    def views(self) -> tuple[str, ...]:
        """Union views."""
        return self.fusion.views

    def tell(self, rows: DatasetRows) -> NDArray[np.float64]:
        """Log-probabilities (N, V)."""
        return fuse_rows(self.fusion, rows).log_probabilities_NV


def fit_ridge_fusion(stage: Stage) -> Teller:
    """The closed form over all features."""
    return _fit_ridge(stage.joined)


def fit_ridge_fusion_by_statistics(stage: Stage) -> Teller:
    """The closed form where every site sends statistics only."""
    return _fit_ridge(_condensed(stage, [rows.name for rows in stage.joined.datasets]).joined)


def _fit_ridge(joined: JoinedRows) -> FusedTeller:
    held_out = held_out_rows(joined)
    return FusedTeller(fit_union_head(joined, held_out, balance=True, is_final=True))


def train_sum(stage: Stage) -> Teller:
    """The paper's plain sum."""
    return _train(stage, "sum")


def train_attention(stage: Stage) -> Teller:
    """The paper's gate over features."""
    return _train(stage, "attention")


def train_discrepancy(stage: Stage) -> Teller:
    """The paper's gate over discrepancies."""
    return _train(stage, "discrepancy")


def train_blend(stage: Stage) -> Teller:
    """The mean of the plain sum and two closed forms."""
    return _train(stage, "blend")


def train_blend_as_exported(stage: Stage) -> Teller:
    """The same, where sites that let no rows go send statistics."""
    return _train(_condensed(stage, sorted(stage.reticent)), "blend")


def train_blend_by_statistics(stage: Stage) -> Teller:
    """The same, where every site sends statistics only."""
    return _train(_condensed(stage, [rows.name for rows in stage.joined.datasets]), "blend")


def _condensed(stage: Stage, names: Sequence[str]) -> Stage:
    return replace(stage, joined=condense_datasets(stage.joined, names, minimum=MIN_PATIENTS))


def _train(stage: Stage, variant: FusionVariant) -> FusedTeller:
    # One thread: waiting threads would count as CPU seconds.
    settings = FusionSettings(variants=(variant,), serve=variant, seed=stage.seed, threads=1)
    return FusedTeller(train_fusions(stage.joined, settings, Provenance("")).best.fusion)
