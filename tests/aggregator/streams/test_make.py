"""A stream made by real commands of real sites, stopped and taken up again."""

from pathlib import Path

import pytest

from aggregator.benchmark.stream import STREAM_FILE, Stream
from aggregator.streams.make import make_stream
from aggregator.streams.plan import PhantomSource, StreamPlan, StreamSite
from shared.echo.expert import CARD_FILE
from shared.errors import Code, EchoFedError
from shared.settings import build_settings

PLAN = StreamPlan(
    name="tiny",
    origin="phantom",
    sites=(
        StreamSite(
            name="north", phantom=PhantomSource(scanner="aurora", labels={"4C": "A4C", "2C": "A2C"})
        ),
        StreamSite(
            name="fjord",
            phantom=PhantomSource(scanner="fjord", labels={"4C": "A4C", "LVO": "A4C-contrast"}),
            level="statistics",
        ),
    ),
    size_HW=(120, 160),
    train_patients=6,
    val_patients=2,
    test_patients=2,
    frames_per_clip=1,
    minimum_patients_per_view=2,
    ingest={"text": "keep"},
    expert={
        "backbone": "test_resnet", "image_size": 32, "epochs": 1, "batch_size": 8, "threads": 1,
    },
    extract={"passes": 0, "threads": 1},
)  # fmt: skip


def test_no_stream_is_measured_on_synthetic_pictures() -> None:
    with pytest.raises(EchoFedError) as caught:
        build_settings(StreamPlan, {**PLAN.model_dump(), "origin": "synthetic"})
    assert caught.value.code is Code.CONFIG_INVALID


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Stream, list[str]]:
    """A stream that was stopped after the first training and made again."""
    folder = tmp_path_factory.mktemp("streams")
    notes: list[str] = []

    def stop(step: str) -> None:
        notes.append(step)
        if step == "fjord: train":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_stream(PLAN, 1, folder, stop)
    return folder, make_stream(PLAN, 1, folder, notes.append), notes


@pytest.mark.slow
def test_a_stopped_stream_goes_on_where_it_stood(
    made: tuple[Path, Stream, list[str]],
) -> None:
    _, stream, notes = made
    assert notes.count("north: train") == 1
    steps = [step.step for step in stream.record.steps]
    assert len(steps) == len(set(steps))


@pytest.mark.slow
def test_the_stream_holds_what_every_expert_saw_and_no_pictures(
    made: tuple[Path, Stream, list[str]],
) -> None:
    folder, stream, _ = made
    stage = stream.stage(2)
    assert all(rows.available == (True, True) for rows in stage.joined.datasets)
    joint = stream.bank.join([stream.record.joint])
    assert [len(rows.label_N) for rows in joint.datasets] == [20, 20]
    assert [one.level for one in stream.arrivals()] == ["rows", "statistics"]
    suffixes = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert suffixes == {".json", ".safetensors"}
    assert len(list(folder.rglob(CARD_FILE))) == 3


@pytest.mark.slow
def test_a_stream_of_another_plan_is_not_overwritten(
    made: tuple[Path, Stream, list[str]],
) -> None:
    folder, _, _ = made
    before = (folder / "tiny" / "seed-1" / STREAM_FILE).read_bytes()
    with pytest.raises(EchoFedError) as caught:
        make_stream(PLAN.model_copy(update={"train_patients": 7}), 1, folder, print)
    assert caught.value.code == Code.ALREADY_EXISTS
    assert (folder / "tiny" / "seed-1" / STREAM_FILE).read_bytes() == before


def test_a_command_that_fails_is_named_with_its_fault(tmp_path: Path) -> None:
    plan = PLAN.model_copy(update={"expert": {"epoch": 3}})
    with pytest.raises(EchoFedError, match="north: init ended with 11") as caught:
        make_stream(plan, 1, tmp_path, lambda _: None)
    assert caught.value.code == Code.RUN_FAILED
