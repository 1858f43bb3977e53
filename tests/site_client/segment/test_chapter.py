"""The README's chapter on segmentation, command by command, at a smaller hospital."""

import re
import shlex
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from shared.testing.commands import serving
from site_client.cli import build_app
from site_client.federate import free_port
from site_client.segment.write import FILES
from site_client.store import SiteStore

README = Path(__file__).parents[3] / "README.md"
CHAPTER, CENTRE = "## Segment:", "**5. At a federation.**"
SMALLER = (('24, 1, 30, (180, 240)', '6, 1, 8, (120, 160)'),)  # fmt: skip
QUICK = ["--set", "segmenter.epochs=2", "--set", "segmenter.threads=1"]


@pytest.fixture
def blocks() -> list[str]:
    text = README.read_text("utf-8")
    start = text.index(CHAPTER)
    return re.findall(
        r"^```\n(.*?)^```", text[start : text.index(CENTRE)], re.DOTALL | re.MULTILINE
    )


def commands(blocks: list[str]) -> list[list[str]]:
    lines = [line for block in blocks for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines if line.startswith("echofed-site")]
    return [line[1:] for line in words]


def written_hospital(block: str) -> str:
    """The program that the chapter types into Python, of a smaller hospital."""
    program = block.split("<<'END'\n")[1].split("END\n")[0]
    for large, small in SMALLER:
        assert large in program
        program = program.replace(large, small)
    return program


@pytest.mark.slow
def test_the_chapter_leads_from_masks_to_a_report(
    blocks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(written_hospital(blocks[0]), {})
    segmenter, config, ran = "", tmp_path / "runs" / "north" / "site.yaml", []
    with ExitStack() as stack:
        for command in commands(blocks):
            line = [re.sub(r"^north-unet-\w+$", segmenter, word) for word in command]
            if line[0] == "serve":
                stack.enter_context(serving(tmp_path / "log", "echofed-site", *line, config=config))
                continue
            line += QUICK if line[0] == "train" else []
            result = CliRunner().invoke(build_app(), line)
            assert result.exit_code == 0, f"{line}: {result.output} {result.exception}"
            ran.append(line[0])
            if line[0] == "init":
                monkeypatch.chdir(config.parent)
                settings = yaml.safe_load(config.read_text())
                settings["services"] = {"port": free_port(), "worker": {"threads": 1}}
                config.write_text(yaml.safe_dump(settings))
            segmenter = next(iter(SiteStore(config.parent).segmenters()), "")
    assert ran == ["init", "ingest", "train", "segment", "segment"]
    seen = {path.relative_to(tmp_path / "runs" / "seen").as_posix()
            for path in (tmp_path / "runs" / "seen").rglob("*.*")}  # fmt: skip
    assert {
        f"{view}/{FILES[kind]}" for view in ("A4C", "A2C") for kind in ("png", "mp4", "json")
    } <= seen
    assert (tmp_path / "runs" / "served" / "overlay.png").is_file()
