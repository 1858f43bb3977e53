"""A federation of the demo: its centre and its sites, driven through the two commands."""

import csv
import shutil
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import yaml
from plan import DemoPlan, Hospital, data_of, dataset_of, flatten
from processes import CommandFailed, Processes, say

from aggregator.change_plan import PLAN_FILE
from shared.echo.manifest import SPLITS
from shared.phantom.hospital import write_hospital

ARTEFACTS = ["rows", "expert_weights", "logits"]
PURPOSES = ["fusion", "evaluation"]


class Federation:
    """Centre and sites under one folder."""

    def __init__(self, plan: DemoPlan, out: Path, processes: Processes) -> None:
        """Keep the plan; nothing is started yet."""
        self.plan = plan
        self.out = out
        self._processes = processes
        self._bundle = ""
        self._scans: list[Future[None]] = []
        self.aggregator = ["--config", str(out / "aggregator.yaml")]

    def site(self, name: str) -> list[str]:
        """``--config`` of a site."""
        return ["--config", str(self.out / name / "site.yaml")]

    def create_centre(self) -> None:
        """Make the centre on free ports and start it."""
        ports = flatten({"federation": {"port": 0, "superlink_port": 0, "host": "127.0.0.1"}})
        settings = flatten({"fusion": {"seed": self.plan.seed, **self.plan.fusion}})
        command = ["echofed-aggregator", "init", *ports, *settings, *self.aggregator]
        self._bundle = str(self._processes.run("centre: init", command)["bundle"])
        (self.out / PLAN_FILE).write_text(yaml.safe_dump(self.plan.change, sort_keys=False))
        self._processes.serve("centre", ["echofed-aggregator", "federate", *self.aggregator])

    def start_scans(self) -> None:
        """Let the hospitals examine their patients, one after the other, beside the rest."""
        self._scans = [Future() for _ in self.plan.everyone()]
        threading.Thread(target=self._scan_all, daemon=True).start()

    def await_scan(self, place: int) -> None:
        """Wait until a hospital's files are there."""
        self._scans[place].result()

    def _scan_all(self) -> None:
        for place, scan in enumerate(self._scans):
            try:
                self._scan(place)
                scan.set_result(None)
            except Exception as error:  # noqa: BLE001 - handed on to whoever waits for the files
                scan.set_exception(error)

    def _scan(self, place: int) -> None:
        spec = self.plan.spec(place)
        say(f"{spec.name}: {spec.num_patients} patients on scanner {spec.scanner}")
        folder = data_of(self.out, spec.name)
        began = time.monotonic()
        truth = write_hospital(spec, folder)
        self._processes.note(f"{spec.name}: scan", time.monotonic() - began, 0.0)
        sizes = (self.plan.train_patients, self.plan.val_patients)
        write_labels(folder, self.plan.everyone()[place], truth.clips, sizes)

    def enrol(self, name: str) -> None:
        """Invite a site, let it answer, admit it, and write a policy that lets features go."""
        run, folder = self._processes.run, self.out / name
        folder.mkdir(parents=True, exist_ok=True)
        out = ["--out", str(folder)]
        run(f"{name}: enrol", ["echofed-aggregator", "enrol", name, *out, *self.aggregator])
        settings = self.plan.site_overrides()
        kit = str(folder / f"{name}.kit")
        run(f"{name}: init", ["echofed-site", "init", kit, *settings, *self.site(name)])
        request = ["--approve", str(folder / f"{name}.request")]
        run(f"{name}: approve", ["echofed-aggregator", "enrol", *request, *out, *self.aggregator])
        certificate = str(folder / f"{name}.certificate")
        run(f"{name}: certificate", ["echofed-site", "init", certificate, *self.site(name)])
        self._write_policy(name)

    def create_yardstick(self, name: str) -> None:
        """Make a site without a centre, for the networks that see everybody's images."""
        command = ["echofed-site", "init", "--standalone", str(self.out / name), "--site", name]
        self._processes.run(f"{name}: init", [*command, *self.plan.site_overrides()])

    def ingest(self, site: str, hospital: str) -> dict[str, Any]:
        """Ingest a hospital's DICOM files at a site."""
        folder = data_of(self.out, hospital)
        files = ["--labels", str(folder / "labels.csv"), "--label-map", str(folder / "labels.yaml")]
        command = ["echofed-site", "ingest", str(folder), *files, "--origin", "phantom"]
        dataset = ["--dataset", dataset_of(hospital)]
        return self._processes.run(
            f"{site}: ingest {hospital}", [*command, *dataset, *self.site(site)]
        )

    def train(self, site: str, hospitals: list[str], *settings: str) -> dict[str, Any]:
        """Train an expert of a site on the datasets of some hospitals."""
        datasets = [word for name in hospitals for word in ("--dataset", dataset_of(name))]
        step = f"{site}: train on {' + '.join(hospitals)}"
        return self._processes.run(
            step, ["echofed-site", "train", *datasets, *settings, *self.site(site)]
        )

    def evaluate(self, site: str, expert: str, hospitals: list[str]) -> dict[str, Any]:
        """Score an expert on the test splits of some hospitals' datasets: hospital -> scores."""
        datasets = [word for name in hospitals for word in ("--dataset", dataset_of(name))]
        command = ["echofed-site", "evaluate", "--expert", expert, *datasets, *self.site(site)]
        done = self._processes.run(f"{site}: evaluate on {len(hospitals)} datasets", command)
        return {name: done["datasets"][dataset_of(name)] for name in hospitals}

    def join(self, name: str) -> None:
        """Start a site's node."""
        self._processes.serve(name, ["echofed-site", "federate", *self.site(name)])

    def increment(self) -> dict[str, Any]:
        """Run an increment with every site that has joined, and promote its candidate."""
        for attempt in range(3):
            try:
                done = self._processes.run(
                    "centre: increment", ["echofed-aggregator", "increment", *self.aggregator]
                )
                break
            except CommandFailed:
                if attempt == 2:
                    raise
        reason = ["--reason", "the demo's increment", "--actor", self.plan.change["approvers"][0]]
        self._processes.run(
            "centre: promote", ["echofed-aggregator", "promote", *reason, *self.aggregator]
        )
        return done

    def predict(self, site: str, file: Path, picture: Path) -> dict[str, Any]:
        """Ask a site what a DICOM file shows."""
        command = ["echofed-site", "predict", str(file), "--out", str(picture)]
        return self._processes.run(f"{site}: predict", [*command, *self.site(site)])

    def adopt_dataset(self, site: str, other: str) -> None:
        """Copy a site's dataset into another site's folder: what no federation would do."""
        own = self.out / site / "datasets" / dataset_of(site)
        shutil.copytree(own, self.out / other / "datasets" / own.name)

    def adopt_expert(self, site: str, other: str) -> str:
        """Copy a site's own expert into another site's folder and return its id."""
        own = next(p for p in (self.out / site / "experts").iterdir() if p.name.startswith(site))
        shutil.copytree(own, self.out / other / "experts" / own.name)
        return own.name

    def _write_policy(self, name: str) -> None:
        consent = {
            "purposes": PURPOSES,
            "recipients": ["echofed"],
            "artefacts": ARTEFACTS,
            "minimum_patients_per_view": 5,
        }
        policy = {
            "version": 1,
            "revision": 2,
            "datasets": {dataset_of(name): consent},
            "approved_bundles": [self._bundle],
        }
        (self.out / name / "policy.yaml").write_text(yaml.safe_dump(policy, sort_keys=False))


def write_labels(
    folder: Path, hospital: Hospital, clips: list[dict[str, Any]], sizes: tuple[int, int]
) -> None:
    """Write labels.csv with a split for every patient, and the label map.

    Args:
        folder: the hospital's.
        hospital: whose words these are.
        clips: records with file, label and patient.
        sizes: number of patients that train and that validate; the others test.
    """
    order = {patient: place for place, patient in enumerate(sorted({c["patient"] for c in clips}))}
    bounds = (sizes[0], sizes[0] + sizes[1])
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "split"])
        for clip in clips:
            split = SPLITS[sum(order[clip["patient"]] >= bound for bound in bounds)]
            writer.writerow([clip["file"], clip["label"], split])
    views = {k: [v] if isinstance(v, str) else list(v) for k, v in hospital.labels.items()}
    (folder / "labels.yaml").write_text(yaml.safe_dump(views))
