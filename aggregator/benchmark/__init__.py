"""Every way to learn from the same stored exports: one file or function, one line."""

from aggregator.benchmark.stage import Method
from shared.registry import Registry

METHODS: Registry[Method] = Registry(
    "benchmark method",
    {
        "fused sum": "aggregator.benchmark.fusions:train_sum",
        "fused attention": "aggregator.benchmark.fusions:train_attention",
        "fused discrepancy": "aggregator.benchmark.fusions:train_discrepancy",
        "fused blend": "aggregator.benchmark.fusions:train_blend",
        "fused ridge": "aggregator.benchmark.fusions:fit_ridge_fusion",
        "fused blend, as exported": "aggregator.benchmark.fusions:train_blend_as_exported",
        "fused blend, statistics": "aggregator.benchmark.fusions:train_blend_by_statistics",
        "fused ridge, statistics": "aggregator.benchmark.fusions:fit_ridge_fusion_by_statistics",
        "naive head": "aggregator.benchmark.sequential:fit_naive",
        "frozen first head": "aggregator.benchmark.frozen_first:fit_frozen_first",
        "EWC": "aggregator.benchmark.sequential:fit_ewc",
        "LwF": "aggregator.benchmark.sequential:fit_lwf",
        "replay": "aggregator.benchmark.sequential:fit_replay",
        "SLDA": "aggregator.benchmark.streaming:fit_slda",
        "nearest mean": "aggregator.benchmark.closed_forms:fit_means",
        "FeCAM": "aggregator.benchmark.fecam:fit_fecam",
        "RanPAC": "aggregator.benchmark.closed_forms:fit_ranpac",
        "ACIL": "aggregator.benchmark.streaming:fit_recursive_ridge",
        "FedPFT": "aggregator.benchmark.mixtures:fit_mixtures",
        "oracle expert": "aggregator.benchmark.alone:ask_own_expert",
    },
)

ORACLES = frozenset({"oracle expert"})
"""Methods that are told what no deployed one can know: which dataset a row is from."""

DEFAULT = "fused blend"
"""What the platform fuses by where nothing else is asked for."""
PAPER = ("fused sum", "fused attention", "fused discrepancy")
"""The paper's variants; the best of them is what the default is held against."""
