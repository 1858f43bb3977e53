"""Every way to learn from the same stored exports: one file or function, one line."""

from aggregator.benchmark.stage import Method
from shared.registry import Registry

METHODS: Registry[Method] = Registry(
    "benchmark method",
    {
        "fused ridge": "aggregator.benchmark.fusions:fit_ridge_fusion",
        "fused ridge, statistics": "aggregator.benchmark.fusions:fit_ridge_fusion_by_statistics",
    },
)
