"""``echofed-site describe``: the same figures as text, JSON and page, with the policy's minimum."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shared.errors import Code, EchoFedError
from shared.phantom.hospital import HospitalSpec, write_hospital
from site_client.cli import build_app
from site_client.policy import DatasetPolicy, Policy, save_policy
from site_client.store import SiteStore

RUNNER = CliRunner()
StripedSite = Callable[..., SiteStore]


@pytest.fixture
def config(tmp_path: Path, build_striped_site: StripedSite) -> Path:
    folder = tmp_path / "north"
    assert RUNNER.invoke(build_app(), ["init", "--standalone", str(folder)]).exit_code == 0
    build_striped_site(folder)
    return folder / "site.yaml"


def test_text_and_page_tell_what_the_document_tells(config: Path, tmp_path: Path) -> None:
    page = tmp_path / "sheet.html"
    words = ["describe", "--config", str(config)]
    said = RUNNER.invoke(build_app(), [*words, "--json", "--html", str(page)])
    assert said.exit_code == 0, said.output
    document = json.loads(said.stdout)
    assert document["labels"]["4CH"]["patients"] == 12
    assert document["splits"]["val"]["patients"] == "<5"
    text = RUNNER.invoke(build_app(), words).stdout
    for part in ("4CH", "<5", "hidden", document["content_sha256"][:30], "none found"):
        assert part in text
    assert document["content_sha256"] in page.read_text("utf-8")


def test_the_minimum_is_the_policy_s(config: Path) -> None:
    consent = DatasetPolicy(minimum_patients_per_view=13)
    save_policy(Policy(datasets={"demo": consent}), config.parent / "policy.yaml")
    said = RUNNER.invoke(build_app(), ["describe", "demo", "--config", str(config), "--json"])
    assert json.loads(said.stdout)["total"]["patients"] == "<13"


def test_an_unknown_dataset_is_named_with_the_nearest(config: Path) -> None:
    said = RUNNER.invoke(build_app(), ["describe", "demmo", "--config", str(config)])
    assert isinstance(said.exception, EchoFedError)
    assert said.exception.code is Code.DATASET_UNKNOWN
    assert "'demo'" in said.exception.hint


@pytest.fixture(scope="module")
def two_scanners(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings of a site where one scanner took nearly all A4C and another all PLAX."""
    folder = tmp_path_factory.mktemp("scanners")
    rows = ["file,label"]
    for place, (scanner, label) in enumerate((("aurora", "A4C"), ("delta", "PLAX"))):
        spec = HospitalSpec(
            name=scanner,
            scanner=scanner,
            labels={label: label},
            num_patients=7,
            clips_per_view=1,
            frames_per_clip=2,
            size_HW=(120, 160),
            screen_correlation=0.0,
            seed=3,
            first_patient=100 * place,
        )
        truth = write_hospital(spec, folder / "files" / scanner)
        rows += [f"{scanner}/{clip['file']},{clip['label']}" for clip in truth.clips]
    (folder / "files" / "labels.csv").write_text("\n".join(rows))
    site = folder / "site"
    for words in (
        ["init", "--standalone", str(site), "--set", "ingest.text=keep"],
        [
            *("ingest", str(folder / "files"), "--labels", str(folder / "files" / "labels.csv")),
            *("--origin", "phantom", "--dataset", "demo", "--config", str(site / "site.yaml")),
        ],
    ):
        said = RUNNER.invoke(build_app(), words)
        assert said.exit_code == 0, said.output
    return site / "site.yaml"


def test_views_that_the_scanner_tells_are_named_as_shortcuts(two_scanners: Path) -> None:
    said = RUNNER.invoke(build_app(), ["describe", "--config", str(two_scanners), "--json"])
    found = json.loads(said.stdout)["possible_shortcuts"]
    assert {one["label"] for one in found} == {"A4C", "PLAX"}
    assert "shape of the sector" in {one["fact"] for one in found}
