"""Federated averaging: the average is a mean, and who may not or cannot take part is left out."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from aggregator.averages import (
    Share,
    drop_runs_of,
    load_average,
    load_course,
    load_result,
    result_folder,
    run_name,
)
from aggregator.centre import Centre
from aggregator.rounds.average import Update, average_updates
from aggregator.rounds.averaging import learning_rate, round_settings, run_averaging
from aggregator.settings import AveragingSettings
from shared.echo.manifest import SPLITS, ClipRecord, DatasetManifest
from shared.echo.segmenter import load_segmenter_files
from shared.errors import Code, EchoFedError
from shared.files import arrays_from_bytes, arrays_to_bytes
from shared.ledger import Ledger
from shared.payload import Payload
from shared.settings import build_settings
from shared.testing.ventricle import STRUCTURES, draw_ventricle
from site_client.clip_file import StoredClip, save_clip
from site_client.policy import DatasetPolicy, Policy, load_policy, save_policy, withdraw_dataset
from site_client.settings import SegmenterSettings
from site_client.store import SiteStore
from site_client.training.checkpoint import Checkpoint
from site_client.training.segmenter import first_network, learn, prepare_lesson

SMALL = {
    "width": 8, "depth": 1, "patch": 2, "image_size": 32, "batch_size": 4, "learning_rate": 0.01,
}  # fmt: skip
CONSENT = DatasetPolicy(
    purposes=("segmentation",),
    recipients=("echofed",),
    artefacts=("segmenter_weights",),
    minimum_patients_per_view=2,
)
TODAY = date(2026, 11, 22)
TRAIN = "train.segmenter"
NAMES = {"north": ("background", "lv", "myocardium"), "south": ("background", "lv", "la")}


class KilledError(Exception):
    """Stands for the end of the process."""


def trace(store: SiteStore, site: str, *, seed: int, num_patients: int = 8) -> None:
    """Give a site a dataset of single pictures with masks of its own structures."""
    generator = np.random.default_rng(seed)
    kept, clips = NAMES[site], []
    values = [kept.index(name) if name in kept else 0 for name in STRUCTURES]
    for patient in range(num_patients):
        pixels_HW, drawn = draw_ventricle(generator)
        labels_FHW = np.array(values, np.uint8)[drawn.labels_FHW]
        annotation = replace(drawn, structures=kept, labels_FHW=labels_FHW)
        key = f"traced-{patient}"
        clip = StoredClip(pixels_HW[None], None, (2.0, 2.0), None, annotation=annotation)
        sha256 = save_clip(store.clip_path("traced", key), clip)
        split = SPLITS[(0, 0, 0, 1)[patient % 4]]
        file = f"clips/{key}.safetensors"
        clips.append(
            ClipRecord(
                key, f"p{patient}", "4CH", split, 1, file, sha256, has_mask=False, structures=kept
            )
        )
    labels = {"4CH": ("A4C",)}
    store.save_manifest(
        DatasetManifest("traced", site, "phantom", "traced", labels, tuple(clips), "screen")
    )


@dataclass
class Averaging:
    """Two sites with masks of different structures, and a centre that averages."""

    federation: Any
    centre: Centre
    answered: int = 0
    dies_after: int | None = None

    def site(self, name: str) -> SiteStore:
        store = self.federation.sites[name].store
        assert isinstance(store, SiteStore)
        return store

    def allow(self, name: str, **changes: Any) -> None:
        consent = CONSENT.model_copy(update=changes)
        save_policy(Policy(datasets={"traced": consent}), self.site(name).root / "policy.yaml")

    def set(self, **changes: Any) -> None:
        segmenter = build_settings(AveragingSettings, SMALL | changes)
        settings = self.centre.settings.model_copy(update={"segmenter": segmenter})
        self.centre = replace(self.centre, settings=settings)

    def run(self, num_rounds: int = 2, *datasets: str) -> dict[str, Any]:
        return run_averaging(self.centre, self.ask, datasets=datasets, num_rounds=num_rounds)

    def ask(self, message_type: str, per_site: Mapping[str, Payload], **how: Any) -> Any:
        if message_type == TRAIN:
            self.answered += 1
            if self.dies_after is not None and self.answered > self.dies_after:
                raise KilledError
        return self.federation.ask(message_type, per_site, **how)

    def folder(self, num_rounds: int = 2, *datasets: str) -> Path:
        run = run_name(self.centre.settings.segmenter, datasets, num_rounds)
        return self.centre.average_folder(run)

    def told(self, site: str, kind: str) -> list[dict[str, Any]]:
        entries = Ledger(self.site(site).ledger_path).entries()
        return [entry.body for entry in entries if entry.kind == kind]


@pytest.fixture(scope="module")
def traced(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of both sites with masks, made once and copied for every test."""
    folder = tmp_path_factory.mktemp("traced")
    for place, name in enumerate(NAMES):
        shutil.copytree(furnished / name, folder / name)
        shutil.rmtree(folder / name / "datasets")
        config = folder / name / "site.yaml"
        settings = yaml.safe_load(config.read_text()) | {"segmenter": {"threads": 1, "epochs": 2}}
        config.write_text(yaml.safe_dump(settings))
        trace(SiteStore(folder / name), name, seed=place)
    return folder


@pytest.fixture
def averaging(federation: Any, traced: Path, tmp_path: Path) -> Averaging:
    for name in NAMES:
        shutil.rmtree(tmp_path / name)
        shutil.copytree(traced / name, tmp_path / name)
    built = Averaging(federation, federation.centre)
    for name in NAMES:
        built.allow(name)
    built.set()
    return built


def update(weights: dict[str, Any], num_frames: int) -> Update:
    return Update(Share(("traced",), num_frames, {}, {}), arrays_to_bytes(weights, {}))


def test_equal_weights_average_to_themselves() -> None:
    weights = {"a": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)}
    averaged = average_updates(
        {"north": update(weights, 3), "south": update(weights, 1)}, server_round=1
    )
    np.testing.assert_array_equal(arrays_from_bytes(averaged)[0]["a"], weights["a"])


@pytest.mark.parametrize("seed", range(3))
def test_sites_count_by_their_frames(seed: int) -> None:
    generator = np.random.default_rng(seed)
    frames = generator.integers(1, 500, 3)
    some = [{"a": generator.normal(size=(5, 2)).astype(np.float32)} for _ in frames]
    averaged = average_updates(
        {str(n): update(one, int(k)) for n, (one, k) in enumerate(zip(some, frames, strict=True))},
        server_round=1,
    )
    expected = np.average([one["a"].astype(np.float64) for one in some], axis=0, weights=frames)
    found = arrays_from_bytes(averaged)[0]["a"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_one_site_and_one_round_are_that_sites_own_training(averaging: Averaging) -> None:
    averaging.set(minimum_sites=1)
    outcome = averaging.run(1, "north/traced")
    _, averaged = load_segmenter_files(Path(outcome["folder"]))
    store, said = averaging.site("north"), round_settings(averaging.centre.settings.segmenter, 0, 1)
    own = build_settings(SegmenterSettings, {**said, "schedule": "constant", "threads": 1})
    lesson = prepare_lesson(store, ["traced"], own)
    network = first_network(own.model_copy(update={"seed": 10}), lesson.train.structures)
    learn(network, lesson, own, Checkpoint(store.root / "runs" / "own"), lambda step: None)
    found, expected = arrays_from_bytes(averaged)[0], network.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value.numpy())


def test_two_sites_with_other_structures_learn_one_network(averaging: Averaging) -> None:
    outcome = averaging.run(2)
    card, _ = load_segmenter_files(Path(outcome["folder"]))
    assert card.site == "echofed"
    assert card.origin == "phantom"
    assert card.structures == ("background", "lv", "myocardium", "la")
    assert card.views == ("A4C",)
    assert card.datasets == ("north/traced", "south/traced")
    hashes = [averaging.site(name).manifest("traced").content_hash() for name in NAMES]
    assert list(card.dataset_hashes) == hashes
    assert {"north/val_dice_myocardium", "south/val_dice_la"} <= card.metrics.keys()
    assert not {"north/val_dice_la", "south/val_dice_myocardium"} & card.metrics.keys()
    both = (card.metrics["north/val_dice"], card.metrics["south/val_dice"])
    assert card.metrics["val_dice"] == pytest.approx(np.mean(both))
    assert [one["shares"]["north"]["num_frames"] for one in outcome["rounds"]] == [6, 6]


def test_what_leaves_a_site_stands_in_its_ledger(averaging: Averaging) -> None:
    averaging.run(2)
    sent = [body["artefact"] for body in averaging.told("north", "egress.sent")]
    assert sent.count("segmenter_weights") == 2
    assert sent.count("annotations") == 1
    assert not list((averaging.site("north").root / "runs").glob("*"))
    arrived = [e for e in averaging.centre.ledger.entries() if e.kind == "segmenter_update.arrived"]
    assert [entry.body["site"] for entry in arrived] == ["north", "south"] * 2


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"artefacts": ("expert_weights",)}, Code.EGRESS_DENIED),
        ({"purposes": ("fusion",)}, Code.EGRESS_DENIED),
        ({"minimum_patients_per_view": 7}, Code.TOO_FEW_PATIENTS),
        ({"expires": date(2020, 1, 1)}, Code.POLICY_EXPIRED),
        ({"withdrawn": date(2026, 1, 1)}, Code.DATASET_WITHDRAWN),
    ],
)
def test_a_site_whose_policy_forbids_it_is_left_out_and_counted(
    averaging: Averaging, changes: dict[str, Any], code: Code
) -> None:
    averaging.allow("south", **changes)
    with pytest.raises(EchoFedError, match=code.name) as caught:
        averaging.run(1)
    assert caught.value.code is Code.NOTHING_TO_DO
    averaging.set(minimum_sites=1)
    outcome = averaging.run(1)
    assert outcome["sites"] == ["north"]
    assert [(one["site"], one["code"]) for one in outcome["refused"]] == [("south", int(code))]
    assert TRAIN not in averaging.federation.asked_of("south")
    assert averaging.told("south", "egress.refused")


def test_a_consent_that_ends_between_rounds_ends_the_sites_part(averaging: Averaging) -> None:
    averaging.set(minimum_sites=1)
    averaging.dies_after = 1
    with pytest.raises(KilledError):
        averaging.run(2)
    averaging.dies_after = None
    withdraw_dataset(averaging.site("south").root / "policy.yaml", "traced", today=TODAY)
    first = load_course(averaging.centre, averaging.folder().name)
    assert first is not None
    assert set(first.learnt_from()) == {"north/traced", "south/traced"}
    outcome = averaging.run(2)
    assert outcome["datasets"] == ["north/traced"]
    assert [list(one["shares"]) for one in outcome["rounds"]] == [["north"], ["north"]]


def test_a_dataset_taken_back_during_the_run_deletes_the_average(averaging: Averaging) -> None:
    averaging.set(minimum_sites=1)
    policy = averaging.site("south").root / "policy.yaml"
    rounds = iter(range(5))

    def withdraws(reply: Payload) -> Payload:
        if next(rounds) == 0:
            withdraw_dataset(policy, "traced", today=TODAY)
        return reply

    averaging.federation.tampers["south", TRAIN] = withdraws
    with pytest.raises(EchoFedError) as caught:
        averaging.run(2)
    assert caught.value.code is Code.DATASET_WITHDRAWN
    assert not averaging.folder().exists()
    assert load_policy(policy).datasets["traced"].withdrawn
    assert averaging.run(2)["datasets"] == ["north/traced"]


def test_a_killed_centre_goes_on_after_the_last_whole_round(
    averaging: Averaging,
) -> None:
    whole = averaging.run(2)
    _, expected = load_segmenter_files(Path(whole["folder"]))
    shutil.rmtree(averaging.folder())
    averaging.answered, averaging.dies_after = 0, 1
    with pytest.raises(KilledError):
        averaging.run(2)
    course = load_course(averaging.centre, averaging.folder().name)
    assert course is not None
    assert len(course.rounds) == 1
    assert len(list(averaging.folder().glob("*.safetensors"))) == 1
    averaging.answered, averaging.dies_after = 0, None
    again = averaging.run(2)
    assert averaging.answered == 1
    assert load_segmenter_files(Path(again["folder"]))[1] == expected
    averaging.run(2)
    assert averaging.answered == 1  # a finished run asks for no more weights


def test_an_average_that_was_altered_on_disk_is_not_gone_on_with(averaging: Averaging) -> None:
    averaging.dies_after = 1
    with pytest.raises(KilledError):
        averaging.run(2)
    (path,) = averaging.folder().glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    averaging.dies_after = None
    with pytest.raises(EchoFedError) as caught:
        averaging.run(2)
    assert caught.value.code is Code.CHECKPOINT_CORRUPT


@pytest.mark.parametrize("code", [Code.SITE_UNREACHABLE, Code.DUPLICATE_REPLY])
def test_a_site_without_a_usable_reply_costs_its_share_of_the_round_alone(
    averaging: Averaging, code: Code
) -> None:
    averaging.set(minimum_sites=1)
    averaging.federation.fails("south", TRAIN, code)
    outcome = averaging.run(1)
    assert list(outcome["rounds"][0]["shares"]) == ["north"]
    assert outcome["datasets"] == ["north/traced"]
    told = {*outcome["absent"].values(), *(Code(one["code"]).name for one in outcome["refused"])}
    assert told == {code.name}


def test_a_round_of_too_few_sites_is_not_kept_and_may_be_asked_again(averaging: Averaging) -> None:
    failing = averaging.federation.fails("south", TRAIN, Code.SITE_UNREACHABLE)
    with pytest.raises(EchoFedError, match="south is absent") as caught:
        averaging.run(1)
    assert caught.value.code is Code.RUN_FAILED
    failing.clear()
    assert list(averaging.run(1)["rounds"][0]["shares"]) == ["north", "south"]


def reshaped(reply: Payload) -> Payload:
    arrays, _ = arrays_from_bytes(reply.blobs["weights"])
    name = next(iter(arrays))
    arrays[name] = np.append(arrays[name].ravel(), np.float32(1))
    return Payload(reply.body, {"weights": arrays_to_bytes(arrays, {})})


def not_finite(reply: Payload) -> Payload:
    arrays, _ = arrays_from_bytes(reply.blobs["weights"])
    next(iter(arrays.values())).ravel()[0] = np.nan
    return Payload(reply.body, {"weights": arrays_to_bytes(arrays, {})})


def weightless(reply: Payload) -> Payload:
    return Payload({**reply.body, "num_frames": 0}, reply.blobs)


def foreign(reply: Payload) -> Payload:
    return Payload({**reply.body, "datasets": ["another"]}, reply.blobs)


@pytest.mark.parametrize(
    ("tamper", "code"),
    [
        (reshaped, Code.WIRE_INVALID),
        (not_finite, Code.FEATURES_NOT_FINITE),
        (weightless, Code.WIRE_INVALID),
        (foreign, Code.WIRE_INVALID),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_not_averaged(
    averaging: Averaging, tamper: Callable[[Payload], Payload], code: Code
) -> None:
    averaging.set(minimum_sites=1)
    averaging.federation.tampers["south", TRAIN] = tamper
    outcome = averaging.run(1)
    assert list(outcome["rounds"][0]["shares"]) == ["north"]
    assert [one["code"] for one in outcome["refused"]] == [int(code)]


def test_a_site_takes_no_more_epochs_than_its_own(averaging: Averaging) -> None:
    averaging.set(epochs=3)
    with pytest.raises(EchoFedError, match=Code.CONFIG_INVALID.name):
        averaging.run(1)


def test_a_dataset_that_was_ingested_anew_begins_the_run_anew(averaging: Averaging) -> None:
    averaging.dies_after = 1
    with pytest.raises(KilledError):
        averaging.run(2)
    averaging.dies_after = None
    trace(averaging.site("south"), "south", seed=7)
    outcome = averaging.run(2)
    card = load_result(averaging.centre, outcome["run"])
    assert card is not None
    assert card.dataset_hashes[1] == averaging.site("south").manifest("traced").content_hash()


def test_names_that_nobody_has_are_refused(averaging: Averaging) -> None:
    with pytest.raises(EchoFedError) as caught:
        averaging.run(1, "west/traced")
    assert caught.value.code is Code.DATASET_UNKNOWN
    averaging.set(structures=["rv"])
    with pytest.raises(EchoFedError) as caught:
        averaging.run(1)
    assert caught.value.code is Code.NAME_UNKNOWN


def test_a_withdrawal_deletes_the_runs_that_hold_the_dataset(averaging: Averaging) -> None:
    run = averaging.run(1)["run"]
    assert drop_runs_of(averaging.centre, "west/echo") == ()
    assert result_folder(averaging.centre, run).is_dir()
    assert drop_runs_of(averaging.centre, "south/traced") == (run,)
    assert not averaging.centre.average_folder(run).exists()


def test_the_learning_rate_falls_from_the_setting_to_a_25th() -> None:
    settings = AveragingSettings(learning_rate=0.01)
    rates = [learning_rate(settings, done, 11) for done in range(11)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[-1] == pytest.approx(0.01 / 25)
    assert rates == sorted(rates, reverse=True)
    assert rates[5] == pytest.approx((0.01 + 0.01 / 25) / 2)
    constant = settings.model_copy(update={"schedule": "constant"})
    assert {learning_rate(constant, done, 11) for done in range(11)} == {0.01}


def test_every_round_has_a_seed_of_its_own(averaging: Averaging) -> None:
    settings = averaging.centre.settings.segmenter
    seeds = {round_settings(settings, done, 8)["seed"] for done in range(8)}
    assert len(seeds) == 8
    assert max(seeds) < 2**53  # what canonical JSON holds


def test_load_average_gives_the_weights_of_the_last_round(averaging: Averaging) -> None:
    outcome = averaging.run(1)
    course = load_course(averaging.centre, outcome["run"])
    assert course is not None
    assert (
        load_average(averaging.centre, course) == load_segmenter_files(Path(outcome["folder"]))[1]
    )
