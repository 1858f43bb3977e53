"""``echofed-aggregator benchmark`` from stored streams to tables, files and pictures."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from aggregator.benchmark import DEFAULT
from aggregator.cli import build_app
from shared.errors import Code, EchoFedError
from shared.files import read_json, write_json

RUNNER = CliRunner()


def run(*arguments: object) -> Result:
    return RUNNER.invoke(build_app(), ["benchmark", *(str(argument) for argument in arguments)])


def code_of(*arguments: object) -> Code:
    error = run(*arguments).exception
    assert isinstance(error, EchoFedError)
    return error.code


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmark")


@pytest.fixture(scope="module")
def document(stored_streams: Path, out: Path) -> dict[str, Any]:
    costs = out / "costs.csv"
    speeds = [("full backbones", 80, 10), ("low rank inside", 80, 10), ("shared trunk", 80, 64)]
    lines = [
        f"net,{kind},{n},{s}" for kind, *both in speeds for n, s in zip((1, 8), both, strict=True)
    ]
    costs.write_text("\n".join(["backbone,kind,experts,frames_per_cpu_s", *lines]))
    options = ("--methods", DEFAULT, "--streams", stored_streams, "--out", out, "--costs", costs)
    result = run(*options, "--json")
    assert result.exit_code == 0, result.exception
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_the_document_is_what_is_written_and_names_every_stream(
    document: dict[str, Any], out: Path
) -> None:
    assert read_json(out / "results.json") == document
    found = {one["stream"]: (one["origin"], one["seeds"]) for one in document["streams"]}
    assert found == {"gaussian": ("phantom", [2, 10]), "organs": ("real", [10])}


def test_the_tables_show_the_documents_figures(
    document: dict[str, Any], stored_streams: Path, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "organs").symlink_to(stored_streams / "organs")
    shown = run("--methods", DEFAULT, "--streams", tmp_path, "--out", tmp_path / "out").stdout
    text = (out / "table.md").read_text()
    for stream in document["streams"]:
        final = stream["methods"][0]["figures"]["macro_f1_final"]
        tail = "" if final["sd"] is None else f" ± {final['sd']:.3f}"
        cell = f"{final['mean']:.3f}{tail}"
        assert f"| {DEFAULT} | {stream['origin']} | {cell} |" in text
        assert cell in shown or stream["stream"] != "organs"


def test_real_and_phantom_stand_in_different_lines_and_files(
    document: dict[str, Any], out: Path
) -> None:
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["stream"], row["origin"]) for row in rows} == {
        ("gaussian", "phantom"),
        ("organs", "real"),
    }
    assert {row["dataset"] for row in rows if row["origin"] == "real"} == {
        "north/north-echo",
        "south/south-echo",
    }
    pictures = {path.name for path in out.glob("*.png")}
    kinds = ("increments", "id-scores", "risk-coverage")
    names = {f"{stream}-{kind}.png" for stream in ("gaussian", "organs") for kind in kinds}
    assert pictures == {*names, "cost.png"}


def test_measured_costs_are_held_against_their_goal(document: dict[str, Any], out: Path) -> None:
    (goal,) = document["costs"]["goals"]
    assert (goal["measured"], goal["reached"]) == (1.25, "yes")
    assert f"| {goal['goal']} | noise | 1.250 | yes |" in (out / "table.md").read_text()


def test_an_empty_folder_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert code_of("--streams", tmp_path, "--out", out) == Code.FRAMES_MISSING
    assert not out.exists()


def test_a_stream_of_a_newer_release_is_refused(tmp_path: Path, stored_streams: Path) -> None:
    record = read_json(stored_streams / "organs" / "seed-10" / "stream.json")
    write_json(tmp_path / "organs" / "seed-10" / "stream.json", {**record, "version": 99})
    assert code_of("--streams", tmp_path, "--out", tmp_path / "out") == Code.CARD_NEWER


def test_a_method_that_nobody_knows_is_refused(tmp_path: Path, stored_streams: Path) -> None:
    options = ("--streams", stored_streams, "--out", tmp_path, "--methods", "fused rigde")
    assert code_of(*options) == Code.NAME_UNKNOWN


def test_without_any_stream_a_small_one_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "aggregator.streams.make.make_small_stream", lambda folder, note: asked.append(folder)
    )
    assert code_of() == Code.FRAMES_MISSING  # what was made holds nothing
    assert asked == [Path("runs/streams-small")]
