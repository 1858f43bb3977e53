"""The BackMix experiment: a screen that tells the view in training and lies in the test."""

import json
from pathlib import Path
from typing import Any

from federation import write_labels
from plan import Hospital, Positive, flatten
from processes import Processes

from shared.phantom.hospital import HospitalSpec, write_hospital
from shared.settings import Settings

SITE = "backmix"
SHORTCUT, CLEAN = "shortcut", "clean"
# name -> (dataset trained on, settings of BackMix)
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain, no shortcut in training": (CLEAN, {"enabled": False}),
    "plain": (SHORTCUT, {"enabled": False}),
    "BackMix": (SHORTCUT, {}),
    "BackMix, masks for 5 %": (SHORTCUT, {"mask_fraction": 0.05}),
    "wBackMix lambda 1, masks for 5 %": (SHORTCUT, {"mask_fraction": 0.05, "loss_lambda": 1.0}),
    "wBackMix lambda 2, masks for 5 %": (SHORTCUT, {"mask_fraction": 0.05, "loss_lambda": 2.0}),
}


class BackMixPlan(Settings):
    """One hospital, twice: with a screen that tells the view, and with one that does not."""

    seed: int
    """Seed of phantom and training."""
    size_HW: tuple[int, int]
    """Rows and columns of the DICOM pictures."""
    scanner: str
    """Scanner preset."""
    labels: dict[str, str | tuple[str, ...]]
    """Views."""
    train_patients: Positive
    """Patients trained on."""
    val_patients: Positive
    """Patients stopped by."""
    test_patients: Positive
    """Patients scored on."""
    frames_per_clip: Positive
    """Frames in a clip."""
    ingest: dict[str, Any]
    """Settings of the ingest; it must keep what lies around the sector."""
    expert: dict[str, Any]
    """Settings of every network."""

    def spec(self, correlation: float) -> HospitalSpec:
        """The hospital with a screen of that correlation; the fans are the same."""
        return HospitalSpec(
            name=SITE,
            scanner=self.scanner,
            labels=self.labels,
            num_patients=self.train_patients + self.val_patients + self.test_patients,
            clips_per_view=1,
            frames_per_clip=self.frames_per_clip,
            size_HW=self.size_HW,
            screen_correlation=correlation,
            seed=self.seed,
        )


def run_backmix(plan: BackMixPlan, out: Path, processes: Processes) -> list[dict[str, Any]]:
    """Train every row of ``RUNS`` and score it; finished rows are kept.

    Returns:
        One row a run: accuracy on the clean test, on the correlated test, and with the sector
        blackened on the correlated test (a net that reads the screen stays above chance).
    """
    config = ["--config", str(out / SITE / "site.yaml")]
    if not (out / SITE / "site.yaml").is_file():
        tree = {"ingest": plan.ingest, "expert": {"seed": plan.seed, **plan.expert}}
        command = ["echofed-site", "init", "--standalone", str(out / SITE), "--site", SITE]
        processes.run(f"{SITE}: init", [*command, *flatten(tree)])
    for dataset, correlation in ((SHORTCUT, 1.0), (CLEAN, 0.0)):
        _make_dataset(plan, out / "data" / dataset, dataset, correlation, processes, config)
    rows = []
    for name, (dataset, settings) in RUNS.items():
        done = out / f"{dataset}-{'-'.join(map(str, settings.values())) or 'on'}.json"
        if not done.is_file():
            row = _train_and_score(plan, name, dataset, settings, processes, config)
            done.write_text(json.dumps(row))
        rows.append(json.loads(done.read_text()))
    return rows


def _make_dataset(
    plan: BackMixPlan,
    folder: Path,
    dataset: str,
    correlation: float,
    processes: Processes,
    config: list[str],
) -> None:
    if (folder / "ingested").is_file():
        return
    hospital = Hospital(name=SITE, scanner=plan.scanner, labels=plan.labels)
    with processes.timed(f"{dataset}: scan"):
        truth = write_hospital(plan.spec(correlation), folder, workers=2)
    write_labels(folder, hospital, truth.clips, (plan.train_patients, plan.val_patients))
    files = ["--labels", str(folder / "labels.csv"), "--label-map", str(folder / "labels.yaml")]
    command = ["echofed-site", "ingest", str(folder), "--dataset", dataset, "--origin", "phantom"]
    processes.run(f"{dataset}: ingest", [*command, *files, *config])
    (folder / "ingested").write_text("")


def _train_and_score(
    plan: BackMixPlan,
    name: str,
    dataset: str,
    settings: dict[str, Any],
    processes: Processes,
    config: list[str],
) -> dict[str, Any]:
    overrides = flatten({"expert.backmix": settings})
    command = ["echofed-site", "train", "--dataset", dataset, *overrides, *config]
    expert = processes.run(f"{name}: train", command)["expert"]

    def score(where: str, *more: str) -> dict[str, Any]:
        command = ["echofed-site", "evaluate", "--expert", expert, "--dataset", where, *more]
        done = processes.run(f"{name}: evaluate on {where}", [*command, *config])
        frames = done["scores"]["test"]["frames"]
        assert isinstance(frames, dict)
        return frames

    clean, correlated = score(CLEAN), score(SHORTCUT)
    background = score(SHORTCUT, "--background-only")
    return {
        "method": name,
        "origin": "phantom",
        "seed": plan.seed,
        "chance": 1 / len(plan.labels),
        "accuracy_clean": clean["accuracy"],
        "accuracy_correlated": correlated["accuracy"],
        "accuracy_background_only": background["accuracy"],
        "test_frames": clean["num"],
    }
