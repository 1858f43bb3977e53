"""Every YAML of deploy/ loads, and the results table is written from measured CSVs alone."""

from itertools import pairwise
from pathlib import Path

import pytest

from aggregator.change_plan import ChangePlan
from shared.echo.ontology import load_ontology
from shared.phantom.planes import PLANES
from shared.settings import build_settings, load_settings
from site_client.datasets.label_map import read_site_map
from site_client.datasets.labels import read_label_table

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


def test_the_demos_change_plan_holds_and_names_who_promotes() -> None:
    from plan import DemoPlan

    demo = load_settings(DemoPlan, EXPERIMENTS / "demo.yaml")
    assert build_settings(ChangePlan, demo.change).may_approve(demo.change["approvers"][0])


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
    names = {path.relative_to(DEPLOY / "configs") for path in (DEPLOY / "configs").rglob("*.yaml")}
    walked = {
        path.relative_to(DEPLOY / "configs") for path in (DEPLOY / "configs/synthesis").iterdir()
    }
    assert names - walked == {Path("experiments/demo.yaml"), Path("experiments/figures.yaml")}


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


def test_the_stills_of_planes_that_the_phantom_has_are_labelled_for_testing(tmp_path: Path) -> None:
    from likeness import GROUPS, write_stills

    stills = tmp_path / "stills"
    stills.mkdir()
    (stills / "manifest.csv").write_text("file,group\na.png,psax\nb.png,mmode\nc.png,a4ch\n")
    for name in "abc":
        (stills / f"{name}.png").touch()
    labels, label_map = write_stills(stills, tmp_path / "out")
    rows = read_label_table(labels, stills).by_file
    assert {name: (row.label, row.split) for name, row in rows.items()} == {
        "a.png": ("psax", "test"),
        "c.png": ("a4ch", "test"),
    }
    entries = read_site_map(label_map).label_map.entries
    assert {view for row in rows.values() for view in entries[row.label]} <= set(PLANES)
    assert {view for views in GROUPS.values() for view in views} == set(PLANES)


def test_the_evidence_table_names_every_source_once_and_shows_the_spread(tmp_path: Path) -> None:
    from tables import results_table

    names = [
        f"{kind} {what}" for kind in ("new scanner", "unseen view") for what in ("auroc", "fpr95")
    ]
    (tmp_path / "evidence.csv").write_text(
        f"folder,source,{','.join(names)},brier,origin,commit\n"
        "seed 1,energy,0.5,0.9,0.7,0.8,,phantom,c\n"
        "seed 2,energy,0.7,0.9,0.7,0.8,,phantom,c\n"
        "seed 1,id score ridge,0.5,0.9,0.7,0.8,0.25,phantom,c\n"
    )
    text = results_table(tmp_path)
    spread = "0.600 ± 0.141 | 0.900 ± 0.000 | 0.700 ± 0.000 | 0.800 ± 0.000"
    assert f"| energy | {spread} | - | - |" in text
    assert "| id score ridge | 0.500 | 0.900 | 0.700 | 0.800 | 0.250 | - |" in text
    assert "phantom" in text
