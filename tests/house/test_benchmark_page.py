"""The README's fusion chapter: what stands between its markers is replaced, and nothing else."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def bench_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "bench"))


def test_only_what_stands_between_the_markers_is_replaced(tmp_path: Path) -> None:
    from publish_benchmark import BEGIN, END, publish

    page = tmp_path / "README.md"
    page.write_text(f"a\n{BEGIN}\nold\n{END}\nz\n")
    publish(page, "new")
    publish(page, "new")
    assert page.read_text() == f"a\n{BEGIN}\nnew\n{END}\nz\n"


def test_the_readme_has_the_markers_once() -> None:
    from publish_benchmark import BEGIN, END

    text = (ROOT / "README.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.index(BEGIN) < text.index(END)


def test_every_picture_of_the_readme_is_there_and_small() -> None:
    for picture in (ROOT / "tests" / "bench" / "plots").glob("*.png"):
        assert picture.stat().st_size < 100_000, picture.name
