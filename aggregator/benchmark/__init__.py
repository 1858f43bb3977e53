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
        "fused ridge, statistics": "aggregator.benchmark.fusions:fit_ridge_fusion_by_statistics",
    },
)
