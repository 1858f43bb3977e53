"""What E experts cost at inference, full ones and on a shared trunk, into cost_experts.csv.

``python tests/bench/measure_cost.py``: networks of random weights and frames of noise, for speed
depends on neither. All kinds take their turn in each repeat, CPU seconds of one thread, the best of
all repeats; FLOP are those of convolutions and matrix products. Accuracy is in trunk.csv.
"""

import argparse
import csv
import logging
import math
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from inside_trunk import num_learnt, with_low_rank
from torch import Tensor

from shared.echo.expert import ExpertCard
from shared.echo.features import ARRAYS
from shared.files import sha256_hex
from shared.models.adapter import build_adapter
from shared.models.backbone import build_expert, feature_width, unpack_tensors
from shared.models.expert import FrozenExpert, look_together, pack_adapter, pack_expert
from shared.models.flops import count_flop

log = logging.getLogger(__name__)
OUT = Path(__file__).parent / "cost_experts.csv"
COUNTS = (1, 2, 4, 8, 16)
VIEWS = ("A4C", "A2C", "A3C", "PLAX", "PSAX-AV", "PSAX-PM")
BATCH = 64


def main() -> None:
    """Measure both kinds for every number of experts and write the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", nargs="+", default=["test_resnet:80"], help="NAME:SIZE")
    parser.add_argument("--repeats", type=int, default=7)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    machine = f"{platform.machine()}, one thread"
    rows = []
    for name in asked.backbone:
        backbone, size = name.split(":")
        rows += measure(backbone, int(size), repeats=asked.repeats)
    rows = [row | {"machine": machine, "commit": commit} for row in rows]
    with OUT.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def measure(backbone: str, size: int, *, repeats: int) -> list[dict[str, str]]:
    """Rows of one backbone: full experts, adapters on one of them, changes inside it.

    Changes inside are merged into the kernels, so each expert costs a full pass, as measured.
    """
    images = torch.randn(BATCH, 1, size, size)
    full = [full_expert(backbone, size, seed) for seed in range(max(COUNTS))]
    trunk, trunk_size = full[0]
    beside = [adapter(trunk, seed) for seed in range(max(COUNTS))]
    model = build_expert(backbone, len(VIEWS), image_size=size)
    num_inside = num_learnt(with_low_rank(model, len(VIEWS)))
    kinds = {
        "full backbones": (full, 0, full[0][1]),
        "shared trunk": (beside, trunk_size, beside[0][1]),
        "low rank inside": (full, trunk_size, num_inside),
    }
    tasks = {
        (kind, num): [expert for expert, _ in kinds[kind][0][:num]]
        for kind in ("full backbones", "shared trunk")
        for num in COUNTS
    }
    seconds = best_seconds(tasks, images, repeats=repeats)
    rows = []
    for kind, (experts, common, each) in kinds.items():
        timed = kind if kind in ("full backbones", "shared trunk") else "full backbones"
        for num in COUNTS:
            spent = seconds[timed, num]
            card = experts[0][0].card
            rows.append(
                {
                    "backbone": backbone,
                    "image_size": str(size),
                    "kind": kind,
                    "experts": str(num),
                    "frames_per_cpu_s": f"{BATCH / spent:.1f}",
                    "cost_over_one": f"{spent / seconds[timed, 1]:.3f}",
                    "cost_over_one_full": f"{spent / seconds['full backbones', 1]:.3f}",
                    "mflop_per_frame": f"{flop(tasks[timed, num], images[:1]) / 1e6:.2f}",
                    "numbers": str(common + num * each),
                    "bytes_per_expert": str(4 * each),
                    "bytes_per_export_row": str(row_bytes(card)),
                }
            )
            log.info("%s", rows[-1])
    return rows


def full_expert(backbone: str, size: int, seed: int) -> tuple[FrozenExpert, int]:
    """A full expert of random weights, and how many numbers its weights file holds."""
    torch.manual_seed(seed)
    model = build_expert(backbone, len(VIEWS), image_size=size)
    weights, layers = pack_expert(model, [torch.randn(BATCH, 1, size, size)])
    card = card_of(weights, layers, backbone, size, feature_width(model), name=f"full-{seed}")
    return FrozenExpert(card, weights), num_numbers(weights)


def adapter(trunk: FrozenExpert, seed: int) -> tuple[FrozenExpert, int]:
    """An expert of random weights on a trunk, and how many numbers its weights file holds."""
    torch.manual_seed(seed)
    size = trunk.card.image_size
    model = build_adapter(trunk.encoder, len(VIEWS), image_size=size)
    weights, layers = pack_adapter(model, [torch.randn(BATCH, 1, size, size)])
    width = feature_width(model)
    card = card_of(weights, layers, trunk.card.backbone, size, width, name=f"adapter-{seed}")
    card = replace(card, trunk=trunk.card.id, trunk_sha256=trunk.card.weights_sha256)
    return FrozenExpert(card, weights, trunk), num_numbers(weights)


def num_numbers(weights: bytes) -> int:
    """Parameters, norms' buffers and references of a weights file, four bytes each."""
    return sum(tensor.numel() for tensor in unpack_tensors(weights).values())


def card_of(
    weights: bytes, layers: tuple[str, ...], backbone: str, size: int, width: int, *, name: str
) -> ExpertCard:
    """A card that says what is needed to run an expert."""
    return ExpertCard(
        id=name, site="bench", datasets=("noise",), dataset_hashes=("",), origin="phantom",
        backbone=backbone, image_size=size, views=VIEWS, feature_width=width, layers=layers,
        weights_sha256=sha256_hex(weights), parent="", seed=0, settings_hash="", settings={},
        metrics={}, created="",
    )  # fmt: skip


def best_seconds(
    tasks: Mapping[tuple[str, int], Sequence[FrozenExpert]], images: Tensor, *, repeats: int
) -> dict[tuple[str, int], float]:
    """CPU seconds of a batch, the best of all repeats; every task takes its turn in each."""
    best = dict.fromkeys(tasks, math.inf)
    for _ in range(repeats):
        for name, experts in tasks.items():
            begun = time.process_time()
            look_together(experts, images)
            best[name] = min(best[name], time.process_time() - begun)
    return best


def flop(experts: Sequence[FrozenExpert], image: Tensor) -> int:
    """FLOP of one frame."""
    return count_flop(lambda: look_together(experts, image))


def row_bytes(card: ExpertCard) -> int:
    """Bytes of one row in an export: keys, half-precision features, logits, evidence."""
    narrow = {"features_ND": card.feature_width, "logits_NC": len(card.views)}
    widths = narrow | {"discrepancy_NL": len(card.layers)}
    return sum(np.dtype(kind).itemsize * widths.get(name, 1) for name, kind in ARRAYS.items())


if __name__ == "__main__":
    main()
