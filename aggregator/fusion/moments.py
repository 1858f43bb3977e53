"""Learning from statistics: stand-ins for rows, and trained weights carried back to whole features.

Where any dataset sent statistics only, everything is learned in the experts' fixed projections
(``shared.echo.statistics.projection``), so that no row has what another lacks; what leaves training
takes whole features as every fusion does.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from aggregator.fusion.evaluate import is_scored
from aggregator.joined_rows import DatasetRows, JoinedRows, select_rows
from shared.echo.expert import Block
from shared.echo.statistics import (
    PARTS,
    SHRINKAGE,
    StatisticsCard,
    StatisticsExport,
    find_moments,
    moment_columns,
    moment_widths,
    projected_width,
    projection,
    shrink,
)
from shared.models.fusion import ScoreFusion
from shared.seeding import numpy_generator


def with_stand_ins(joined: JoinedRows) -> JoinedRows:
    """The same datasets as rows: those of which there are statistics are drawn."""
    if not joined.statistics:
        return joined
    drawn = tuple(stand_in_rows(export, joined.blocks) for export in joined.statistics)
    return replace(joined, datasets=(*joined.datasets, *drawn), statistics=())


def stand_in_rows(export: StatisticsExport, blocks: Sequence[Block]) -> DatasetRows:
    """Draw as many rows from each label's Gaussian as it had frames; every row is a clip.

    Args:
        export: statistics of one dataset; the same ones always give the same rows.
        blocks: the experts of the rows; features are those that the projection tells of.
    """
    card, moments = export.card, export.moments
    known = {block.expert: place for place, block in enumerate(card.blocks)}
    generator = numpy_generator(0, "stand-ins", card.id)
    columns, labels, splits = [], [], []
    for part in range(len(PARTS)):
        num_K = moments.num_frames_SK[part]
        label_N = np.repeat(np.arange(len(num_K)), num_K)
        root_MM = _root(moments.covariance_SMM[part])
        noise_NM = generator.normal(size=(len(label_N), len(root_MM))) @ root_MM.T
        columns.append(moments.mean_SKM[part][label_N] + noise_NM)
        labels.append(label_N)
        splits.append(np.full(len(label_N), part))
    rows_NM = np.concatenate(columns)
    ends = np.cumsum(moment_widths(card.blocks))[:-1]
    groups = np.split(rows_NM, ends, axis=1)

    def gather(group: int, widths: Sequence[int]) -> tuple[NDArray[np.float32], ...]:
        start = group * len(card.blocks)
        return tuple(
            groups[start + known[block.expert]].astype(np.float32)
            if block.expert in known
            else np.zeros((len(rows_NM), width), np.float32)
            for block, width in zip(blocks, widths, strict=True)
        )

    projected = gather(0, [projected_width(block) for block in blocks])
    return DatasetRows(
        name=f"{card.site}/{card.dataset}",
        dataset_hash=card.dataset_hash,
        origin=card.origin,
        labels=card.labels,
        label_views=card.label_views,
        exports=(card.id,),
        available=tuple(block.expert in known for block in blocks),
        num_dropped=0,
        label_N=np.concatenate(labels),
        split_N=np.concatenate(splits),
        pass_N=np.zeros(len(rows_NM), np.int64),
        clip_N=np.arange(len(rows_NM)),
        patient_N=np.arange(len(rows_NM)),
        features=tuple(
            (rows_NP @ projection(block).T).astype(np.float32)
            for rows_NP, block in zip(projected, blocks, strict=True)
        ),
        logits=gather(1, [len(block.views) for block in blocks]),
        evidence=gather(2, [block.num_evidence for block in blocks]),
        annotated=card.annotated,
        never_images=card.never_images,
        folds=card.folds,
        policy_version=card.policy_version,
    )


def project(joined: JoinedRows) -> JoinedRows:
    """The same rows with projected features, under blocks of the projected widths."""
    projections = [projection(block) for block in joined.blocks]
    datasets = tuple(
        replace(
            rows,
            features=tuple(
                (rows_ND.astype(np.float64) @ projection_DP).astype(np.float32)
                for rows_ND, projection_DP in zip(rows.features, projections, strict=True)
            ),
        )
        for rows in joined.datasets
    )
    blocks = tuple(replace(block, feature_width=projected_width(block)) for block in joined.blocks)
    return replace(joined, blocks=blocks, datasets=datasets)


def unproject(fusion: ScoreFusion, blocks: Sequence[Block]) -> ScoreFusion:
    """The fusion of whole features that says what a fusion of projected ones says.

    A map W of projections, standardised by means m and deviations S, is the map W S^-1 P^T of the
    features about P m.

    Args:
        fusion: trained on projected features.
        blocks: its experts as they are.
    """
    whole = ScoreFusion(blocks, fusion.variant)
    windows, theirs = whole.named_weights(), fusion.named_weights()
    for name, window in windows.items():
        if window.shape == theirs[name].shape:
            window.copy_(theirs[name])
    for block in blocks:
        if block.feature_width == projected_width(block):
            continue
        lift_DP = torch.from_numpy(projection(block)).float()
        scale = f"scale/features/{block.expert}"
        windows[f"{scale}/mean_D"].copy_(lift_DP @ theirs[f"{scale}/mean_D"])
        windows[f"{scale}/sd_D"].fill_(1.0)
        readers = [f"cross/{block.expert}/{b.expert}/weight" for b in blocks if b is not block]
        if fusion.variant == "attention":
            readers.append(f"gate/first/{block.expert}/weight")
        for name in readers:
            windows[name].copy_((theirs[name] / theirs[f"{scale}/sd_D"]) @ lift_DP.T)
    return whole.eval()


def condense_rows(
    rows: DatasetRows, blocks: Sequence[Block], *, minimum: int, shrinkage: float = SHRINKAGE
) -> StatisticsExport:
    """What a site would have sent in place of these rows, for trials on stored exports.

    Args:
        rows: of one dataset.
        blocks: the experts that saw them.
        minimum: patients that a label must have in a part.
        shrinkage: of the correlations within labels.
    """
    kept = select_rows(rows, np.any([is_scored(rows, part) for part in PARTS], axis=0))
    seen = [place for place, is_available in enumerate(rows.available) if is_available]
    told = tuple(blocks[place] for place in seen)
    columns_NM = moment_columns(
        told,
        [kept.features[place] for place in seen],
        [kept.logits[place] for place in seen],
        [kept.evidence[place] for place in seen],
    )
    site, _, dataset = rows.name.partition("/")
    card = StatisticsCard(
        id=f"{rows.name} condensed",
        site=site,
        dataset=dataset,
        dataset_hash=rows.dataset_hash,
        origin=rows.origin,
        blocks=told,
        expert_sha256=("",) * len(told),
        labels=rows.labels,
        label_views=rows.label_views,
        shrinkage=shrinkage,
        policy_version=rows.policy_version,
        created="",
        annotated=rows.annotated,
        never_images=rows.never_images,
        folds=dict(rows.folds),
    )
    moments = find_moments(
        columns_NM,
        kept.label_N,
        kept.split_N,
        kept.patient_N,
        num_labels=len(rows.labels),
        minimum=minimum,
    )
    return StatisticsExport(card, shrink(moments, shrinkage))


def condense_datasets(
    joined: JoinedRows, names: Sequence[str], *, minimum: int, shrinkage: float = SHRINKAGE
) -> JoinedRows:
    """The same datasets, some of them as if their sites sent statistics only."""
    condensed = tuple(
        condense_rows(rows, joined.blocks, minimum=minimum, shrinkage=shrinkage)
        for rows in joined.datasets
        if rows.name in names
    )
    left = tuple(rows for rows in joined.datasets if rows.name not in names)
    return replace(joined, datasets=left, statistics=(*joined.statistics, *condensed))


def _root(covariance_MM: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix R with R R^T the covariance, which may be singular."""
    value_M, vector_MM = np.linalg.eigh(covariance_MM)
    root_MM: NDArray[np.float64] = vector_MM * np.sqrt(np.maximum(value_M, 0.0))
    return root_MM
