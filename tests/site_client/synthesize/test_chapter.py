"""The README's chapter on synthesis, command by command, at a smaller hospital and its centre."""

import re
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydicom import dcmread
from typer.testing import CliRunner

from aggregator import cli as aggregator_cli
from shared.echo.manifest import DatasetManifest
from shared.echo.segmenter import load_segmenter_files
from shared.errors import Code, EchoFedError
from shared.ledger import Ledger
from shared.testing.commands import serving, set_options
from site_client import cli as site_cli
from site_client.federate import free_port
from site_client.store import SiteStore

README = Path(__file__).parents[3] / "README.md"
CHAPTER = "## Synthesise:"
SMALLER = ("24, 1, 30, (180, 240)", "24, 1, 2, (96, 128)")
APPS: dict[str, typer.Typer] = {
    "echofed-aggregator": aggregator_cli.build_app(),
    "echofed-site": site_cli.build_app(),
}
SYNTHESIZER = {
    "options": "{width: 8, mults: [1], hidden: 4}", "image_size": 32, "sampler.steps": 2,
    "seconds": 0, "steps": 2, "batch_size": 2, "embedding_steps": 40, "threads": 1,
}  # fmt: skip
SEGMENTER = {"image_size": 32, "width": 8, "depth": 2, "epochs": 1, "threads": 1}
QUICK = [
    *set_options({f"synthesizer.{name}": value for name, value in SYNTHESIZER.items()}),
    *set_options({f"segmenter.{name}": value for name, value in SEGMENTER.items()}),
]


@pytest.fixture
def blocks() -> list[str]:
    text = README.read_text("utf-8")
    start = text.index(CHAPTER)
    chapter = text[start : text.index("\n## ", start)]
    return re.findall(r"^```\n(.*?)^```", chapter, re.DOTALL | re.MULTILINE)


def test_the_chapter_is_taken_from_the_page(blocks: list[str]) -> None:
    assert len(blocks) == 2
    assert SMALLER[0] in blocks[0]


class Newcomer:
    """Types what the chapter says, and takes the ids and the port that this machine gives."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        """Stand in the site's folder."""
        self.store, self.centre = SiteStore(folder / "north"), folder / "centre" / "aggregator.yaml"
        self._stack, self._log, self.ran = stack, folder / "log", list[str]()

    def type(self, line: str) -> None:
        name, *words = shlex.split(line, comments=True)
        words = [self._named(word) for word in words]
        if words[0] == "serve":
            at = words.index("--config")
            del words[at : at + 2]
            self._stack.enter_context(serving(self._log, name, *words, config=self.centre))
        else:
            words += QUICK if words[0] == "train" else []
            result = CliRunner().invoke(APPS[name], words)
            assert result.exit_code == 0, f"{line}: {result.output} {result.exception}"
        self.ran.append(words[0])
        if line.startswith("echofed-aggregator init"):
            ports = {"port": free_port(), "worker": {"threads": 1}}
            told = yaml.safe_load(self.centre.read_text())
            self.centre.write_text(yaml.safe_dump({**told, "services": ports}))

    def _named(self, word: str) -> str:
        for pattern, known in (
            (r"north-spade_unet-1a2b3c4d", self.store.synthesizers()),
            (r"north-unet-1a2b3c4d", self.store.segmenters()),
        ):
            if re.search(pattern, word):
                word = word.replace(pattern, next(iter(known)))
        prefix = "synthesizer=@../../../"
        return word.replace(prefix, f"synthesizer=@{README.parent}/")


def written(block: str, folder: Path) -> list[str]:
    """Do what the block writes by Python and by hand; the commands of ours that are left."""
    program = block.split("python - <<'END'\n")[1].split("END\n")[0]
    exec(program.replace(*SMALLER), {})
    policy = block.split("cat > policy.yaml <<'END'\n")[1].split("END\n")[0]
    few = {"minimum_patients_per_view": 2}
    told: dict[str, Any] = yaml.safe_load(policy)
    told["datasets"] = {name: {**part, **few} for name, part in told["datasets"].items()}
    (folder / "consent.yaml").write_text(yaml.safe_dump(told))
    return [line for line in block.splitlines() if line.startswith("echofed-")]


@pytest.mark.slow
def test_the_chapter_leads_from_masks_to_a_segmenter_of_drawn_images(
    blocks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "north"
    site.mkdir()
    monkeypatch.chdir(site)
    with ExitStack() as stack:
        newcomer = Newcomer(tmp_path, stack)
        lines = written(blocks[0], tmp_path)
        for line in [*lines, *blocks[1].splitlines()]:
            newcomer.type(line)
            if line.startswith("echofed-site init north.certificate"):
                (site / "policy.yaml").write_text((tmp_path / "consent.yaml").read_text())
    assert newcomer.ran == [
        "init", "enrol", "init", "enrol", "init", "ingest", "train", "export", "register", "serve",
        "fetch-model", "synthesize", "train", "segment", "synthesize",
    ]  # fmt: skip
    store = newcomer.store
    expect_stamped(store, store.manifest("drawn"), num=100)
    expect_stamped(store, store.manifest("hearts"), num=20)
    files = list((tmp_path / "dicom").iterdir())
    assert {dcmread(file, stop_before_pixels=True).SyntheticData for file in files} == {"YES"}
    (segmenter,) = store.segmenters()
    card, _ = load_segmenter_files(store.segmenter_folder(segmenter))
    assert (card.origin, card.datasets) == ("synthetic", ("drawn",))
    assert (tmp_path / "seen" / "overlay.png").is_file()
    assert list(store.synthesizer_folder(store.synthesizers()[0]).rglob("*.png"))
    sent = [entry.body["artefact"] for entry in Ledger(store.ledger_path).entries()
            if entry.kind == "egress.sent"]  # fmt: skip
    assert set(sent) == {"synthesizer_weights", "masks"}
    refused = CliRunner().invoke(
        APPS["echofed-site"], ["evaluate", "--dataset", "drawn", "--expert", "x"]
    )
    assert isinstance(refused.exception, EchoFedError)
    assert refused.exception.code is Code.ORIGIN_UNFIT


def expect_stamped(store: SiteStore, manifest: DatasetManifest, *, num: int) -> None:
    """So many labelled images of the synthesizer at hand, none of them for a test."""
    (synthesizer,) = store.synthesizers()
    assert manifest.origin == "synthetic"
    assert len(manifest.clips) == num
    assert {clip.split for clip in manifest.clips} == {"train", "val"}
    assert {clip.synthesis.synthesizer for clip in manifest.clips if clip.synthesis} == {
        synthesizer
    }
    assert all(clip.synthesis is not None for clip in manifest.clips)
    assert all(store.clip(manifest.id, clip).annotation is not None for clip in manifest.clips)
    assert (store.preview_path(manifest.id)).is_file()
