"""A federation in one process: a centre and sites with real stores, asked without any transport."""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from aggregator.centre import Centre, open_centre
from aggregator.rounds.exchange import Failure, Outcome
from aggregator.rounds.increment import run_increment
from aggregator.rounds.round import Round, Tally
from shared.echo.expert import ExpertCard, save_checkpoint
from shared.echo.manifest import SPLITS, ClipRecord, DatasetManifest
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from shared.models.backbone import build_expert, feature_width
from shared.models.expert import pack_expert
from shared.payload import Payload, read_payload, write_header, write_refusal
from site_client.app import HANDLERS
from site_client.clip_file import StoredClip, save_clip
from site_client.policy import DatasetPolicy, Policy, save_policy
from site_client.store import SiteStore

BACKBONE = "test_resnet.r160_in1k"
SIZE = 32
NOW = datetime(2026, 11, 22, tzinfo=UTC)
CONSENT = DatasetPolicy(
    purposes=("fusion", "evaluation"),
    recipients=("echofed",),
    artefacts=("rows", "expert_weights"),
    minimum_patients_per_view=2,
)


@dataclass
class SmallSite:
    """A site with one dataset and its expert; nothing in it was trained."""

    name: str
    config: Path
    store: SiteStore

    @staticmethod
    def furnish(folder: Path, name: str, labels: Mapping[str, str], *, seed: int) -> None:
        root = folder / name
        root.mkdir()
        centre = {"address": "127.0.0.1:1", "federation": "echofed"}
        extract = {"passes": 1, "batch_size": 16, "threads": 1}
        settings = {"site": name, "centre": centre, "extract": extract}
        (root / "site.yaml").write_text(yaml.safe_dump(settings))
        site = SmallSite(name, root / "site.yaml", SiteStore(root))
        site.store.create_key()
        site.allow()
        site.ingest(labels, seed=seed)
        site.train(seed=seed)

    def ingest(self, labels: Mapping[str, str], *, seed: int, dataset: str = "echo") -> None:
        generator = np.random.default_rng(seed)
        records = []
        for place, (label, patient) in enumerate((a, b) for a in labels for b in range(6)):
            pixels = generator.integers(0, 255, (2, SIZE, SIZE), dtype=np.uint8)
            pixels[:, : 4 * (1 + list(labels).index(label))] = 255
            key = f"{dataset}{place}"
            clip = StoredClip(pixels, np.ones((SIZE, SIZE), bool), None, None)
            sha256 = save_clip(self.store.clip_path(dataset, key), clip)
            file = f"clips/{key}.safetensors"
            split = SPLITS[patient % 3]
            records.append(ClipRecord(key, f"{label}{patient}", label, split, 2, file, sha256))
        self.store.save_manifest(
            DatasetManifest(
                id=dataset,
                site=self.name,
                origin="phantom",
                source="dicom",
                labels={label: (view,) for label, view in labels.items()},
                clips=tuple(records),
                kept_pixels="sector",
            )
        )

    def train(self, *, seed: int, dataset: str = "echo") -> ExpertCard:
        manifest = self.store.manifest(dataset)
        views = manifest.label_map().views()
        torch.manual_seed(seed)
        model = build_expert(BACKBONE, len(views), image_size=SIZE)
        weights, layers = pack_expert(model, iter([torch.randn(8, 1, SIZE, SIZE)]))
        sha256 = sha256_hex(weights)
        card = ExpertCard(
            id=f"{self.name}-{dataset}-{sha256[:8]}",
            site=self.name,
            datasets=(dataset,),
            dataset_hashes=(manifest.content_hash(),),
            origin="phantom",
            backbone=BACKBONE,
            image_size=SIZE,
            views=views,
            feature_width=feature_width(model),
            layers=layers,
            weights_sha256=sha256,
            parent="",
            seed=seed,
            settings_hash="",
            settings={},
            metrics={},
            created=f"2026-01-01T00:00:{seed % 60:02d}+00:00",
        )
        save_checkpoint(self.store.expert_folder(card.id), card, weights)
        return card

    def allow(self, consent: DatasetPolicy = CONSENT, dataset: str = "echo") -> None:
        save_policy(Policy(datasets={dataset: consent}), self.store.root / "policy.yaml")


Tamper = Callable[[Payload], Payload]


@dataclass
class SmallFederation:
    """A centre and its sites; ``ask`` calls the sites' own handlers through the wire's header."""

    centre: Centre
    config: Path
    sites: dict[str, SmallSite] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    tampers: dict[tuple[str, str], Tamper] = field(default_factory=dict)
    last_words: set[tuple[str, str]] = field(default_factory=set)
    failing: dict[tuple[str, str], Code] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def ask(
        self,
        message_type: str,
        per_site: Mapping[str, Payload],
        *,
        on_reply: Callable[[str, Outcome], None] | None = None,
    ) -> dict[str, Outcome]:
        outcomes: dict[str, Outcome] = {}
        for site, request in per_site.items():
            self.asked.append((site, message_type))
            outcomes[site] = self._reply(site, message_type, request)
            if on_reply is not None:
                on_reply(site, outcomes[site])
        return outcomes

    def _reply(self, site: str, message_type: str, request: Payload) -> Outcome:
        if (site, message_type) in self.last_words:
            self.away.add(site)
        if site in self.away:
            return Failure(Code.SITE_UNREACHABLE, f"site {site!r} is not connected")
        there = read_payload(write_header(request, site=site), request.blobs, site=site)
        try:
            reply = HANDLERS[message_type](self.sites[site].config, there)
            reply = self.tampers.get((site, message_type), lambda same: same)(reply)
            header, blobs = write_header(reply, site=site), reply.blobs
        except EchoFedError as error:
            header, blobs = write_refusal(error.code, site=site), {}
        if (site, message_type) in self.failing:
            return Failure(self.failing[site, message_type], f"no usable reply of site {site!r}")
        try:
            return read_payload(header, blobs, site=site)
        except EchoFedError as error:
            return Failure(error.code, error.message)

    def reply_lost(self, site: str, message_type: str) -> dict[tuple[str, str], Code]:
        """The site works, but its reply never arrives; clear the mapping to mend it."""
        return self.fails(site, message_type, Code.SITE_UNREACHABLE)

    def fails(self, site: str, message_type: str, code: Code) -> dict[tuple[str, str], Code]:
        """The site works, but the transport has no usable reply; clear the mapping to mend it."""
        self.failing[site, message_type] = code
        return self.failing

    def dies(self, site: str, message_type: str) -> None:
        """The site falls over while it works on this request and stays away."""
        self.last_words.add((site, message_type))

    def round(self) -> Round:
        return Round(self.centre, self.ask, Tally(self.centre.ledger, "i0001"), lambda: NOW)

    def increment(self) -> dict[str, Any]:
        """Run or resume an increment."""
        state = self.centre.state
        row = state.open_increment(now=NOW)
        return run_increment(self.centre, self.ask, row.id, attempt=state.next_attempt(row.id))

    def asked_of(self, site: str) -> list[str]:
        return [kind for name, kind in self.asked if name == site]

    def join(self, folder: Path, name: str) -> SmallSite:
        self.sites[name] = SmallSite(name, folder / name / "site.yaml", SiteStore(folder / name))
        fingerprint = hashlib.sha256(name.encode()).hexdigest()
        self.centre.state.enrol(name, fingerprint, now=NOW)
        return self.sites[name]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of three sites with data and experts, made once and copied for every test."""
    folder = tmp_path_factory.mktemp("sites")
    SmallSite.furnish(folder, "north", {"4CH": "A4C", "2CH": "A2C"}, seed=1)
    SmallSite.furnish(folder, "south", {"A4C": "A4C", "LAX": "PLAX"}, seed=2)
    SmallSite.furnish(folder, "east", {"4CH": "A4C", "SC": "SC-4C"}, seed=3)
    return folder


@pytest.fixture
def federation(tmp_path: Path, furnished: Path) -> Iterator[SmallFederation]:
    """A centre that knows nothing yet and the sites north and south; east may join."""
    shutil.copytree(furnished, tmp_path, dirs_exist_ok=True)
    built = open_federation(tmp_path)
    yield built
    built.centre.state.close()


@pytest.fixture(scope="session")
def grown(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of a federation after its first increment, made once."""
    folder = tmp_path_factory.mktemp("grown")
    shutil.copytree(furnished, folder, dirs_exist_ok=True)
    built = open_federation(folder)
    built.increment()
    built.centre.state.close()
    return folder


@pytest.fixture
def after_one(tmp_path: Path, grown: Path) -> Iterator[SmallFederation]:
    """The same federation after its first increment."""
    shutil.copytree(grown, tmp_path, dirs_exist_ok=True)
    built = open_federation(tmp_path)
    yield built
    built.centre.state.close()


@pytest.fixture
def current(federation: SmallFederation) -> Round:
    return federation.round()


def open_federation(folder: Path) -> SmallFederation:
    centre = folder / "centre"
    centre.mkdir(exist_ok=True)
    config = centre / "aggregator.yaml"
    fusion = {"variants": ["discrepancy"], "epochs": 1, "threads": 1}
    config.write_text(yaml.safe_dump({"fusion": fusion}))
    built = SmallFederation(open_centre(config), config)
    built.join(folder, "north")
    built.join(folder, "south")
    return built
