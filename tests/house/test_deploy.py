"""Every YAML of deploy/ loads, and the results table is written from measured CSVs alone."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from shared.echo.ontology import load_ontology
from shared.models.backbone import build_expert, classifier_of
from shared.models.expert import FrozenExpert
from shared.phantom.anatomy import draw_heart
from shared.phantom.scanner import SCANNERS, render_clip
from shared.settings import load_settings
from shared.testing.experts import freeze

DEPLOY = Path(__file__).parents[2] / "deploy"
EXPERIMENTS = DEPLOY / "configs" / "experiments"


@pytest.fixture(autouse=True)
def demo_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DEPLOY / "demo"))


def test_the_demo_plan_names_scanners_and_views_that_exist() -> None:
    from plan import DemoPlan

    plan = load_settings(DemoPlan, EXPERIMENTS / "demo.yaml")
    specs = [plan.spec(place) for place in range(len(plan.everyone()))]  # refuses unknown names
    assert len({spec.scanner for spec in specs}) == len(specs) == 4
    views = [{view for _, view in spec.exams()} for spec in specs]
    assert views[3] - (views[0] | views[1] | views[2]), "the newcomer brings new views"
    assert all(view in load_ontology().views for some in views for view in some)
    ranges = [range(s.first_patient, s.first_patient + s.num_patients) for s in specs]
    assert all(a.stop <= b.start for a, b in pairwise(ranges))


def test_the_figures_plan_loads_and_its_overrides_fit_the_demo() -> None:
    from figures import FiguresPlan
    from plan import DemoPlan

    plan = load_settings(FiguresPlan, EXPERIMENTS / "figures.yaml")
    demo = load_settings(DemoPlan, EXPERIMENTS / plan.demo, plan.overrides)
    frames = demo.test_patients * demo.frames_per_clip * min(
        len(demo.spec(place).exams()) for place in range(4)
    )  # fmt: skip
    assert len(plan.seeds) == 3
    assert frames >= 1000


def test_every_yaml_of_deploy_is_loaded_by_a_test() -> None:
    names = {path.name for path in (DEPLOY / "configs").rglob("*.yaml")}
    assert names == {"demo.yaml", "figures.yaml"}


def test_the_table_shows_what_the_csv_holds_and_says_what_is_missing(tmp_path: Path) -> None:
    from tables import BEGIN, END, results_table, write_between

    (tmp_path / "accuracy.csv").write_text(
        "seed,origin,method,dataset,level,macro_f1,test_frames,machine,commit\n"
        '1,phantom,"fused, after",north,clip,0.5,99,m,c\n'
        '2,phantom,"fused, after",north,clip,0.7,99,m,c\n'
        '1,phantom,"fused, after",north,frame,0.1,99,m,c\n'
    )
    text = results_table(tmp_path)
    assert "| fused, after | 0.600 ± 0.141 | 0.600 |" in text
    assert "All rows phantom" in text
    assert "backmix.csv: not yet measured." in text
    page = tmp_path / "README.md"
    page.write_text(f"a\n{BEGIN}\nold\n{END}\nz\n")
    write_between(page, text)
    write_between(page, text)
    assert page.read_text() == f"a\n{BEGIN}\n{text}\n{END}\nz\n"


def test_real_stills_are_scored_by_the_groups_that_the_expert_can_name(tmp_path: Path) -> None:
    from likeness import name_views

    expert = _says_always("A4C", views=("A4C", "A2C", "PLAX", "PSAX-AV", "PSAX-PM"))
    heart = draw_heart(np.random.default_rng(3))
    rows = ["file,group"]
    for place, group in enumerate(("a4ch", "a2ch", "psax", "psax", "mmode")):
        clip = render_clip(
            heart, "A4C", SCANNERS["aurora"], num_frames=1, size_HW=(240, 320),
            rng=np.random.default_rng(place),
        )  # fmt: skip
        Image.fromarray(clip.pixels_THW[0]).save(tmp_path / f"{place}.png")
        rows.append(f"{place}.png,{group}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    found = {row["measure"]: row for row in name_views(tmp_path, expert)}
    assert {row["pictures"] for row in found.values()} == {4}, "M-mode shows no plane"
    assert found["TTE47 group accuracy"]["value"] == 0.25
    assert found["TTE47 chance"]["value"] == 0.25
    assert found["TTE47 most frequent group"]["value"] == 0.5
    share = found["TTE47 mean probability of the right group"]["value"]
    assert share == pytest.approx(0.25, abs=0.01)


def _says_always(view: str, views: tuple[str, ...]) -> FrozenExpert:
    model = build_expert("test_resnet", len(views), image_size=64)
    head = classifier_of(model)
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([10.0 * (one == view) for one in views]))
    return freeze(model, "test_resnet", [torch.randn(4, 1, 64, 64)], views=views)
