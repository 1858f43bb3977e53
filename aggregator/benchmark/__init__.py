"""Every way to learn from the same stored exports: one file or function, one line."""

from aggregator.benchmark.stage import Method
from shared.registry import Registry

METHODS: Registry[Method] = Registry(
    "benchmark method",
    {
        "fused ridge": "aggregator.benchmark.fusions:fit_ridge_fusion",
    },
)

ORACLES = frozenset({"oracle expert"})
"""Methods that are told what no deployed one can know: which dataset a row is from."""

DEFAULT = "fused ridge"
"""What the platform fuses by where nothing else is asked for."""
PAPER = ("fused sum", "fused attention", "fused discrepancy")
"""The paper's variants; the best of them is what the default is held against."""
