"""Each layout lists the pictures of a small tree as published, and nothing beside them."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from shared.echo.ontology import load_ontology
from shared.errors import Code, EchoFedError
from site_client.datasets import SOURCES
from site_client.datasets.labels import LabelRow
from site_client.datasets.layouts import LAYOUTS
from site_client.datasets.listing import Listing


def listed(layout: str, folder: Path, tree: Mapping[str, str]) -> Listing:
    for name, text in tree.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return LAYOUTS[layout](folder)


def patient(number: int, view: str, kind: str, suffix: str) -> str:
    return f"patient{number:04d}/patient{number:04d}_{view}_{kind}.{suffix}"


@pytest.mark.parametrize("layout", LAYOUTS.names())
def test_a_folder_without_the_layout_is_refused(layout: str, tmp_path: Path) -> None:
    with pytest.raises(EchoFedError) as caught:
        listed(layout, tmp_path, {"notes.txt": "", "scan.png": "", "film.avi": "", "a.dcm": ""})
    assert caught.value.code is Code.CONFIG_INVALID
    assert layout in caught.value.message


def test_camus_in_nifti_has_the_published_split(tmp_path: Path) -> None:
    pictures = [
        patient(1, "2CH", "ED", "nii.gz"),
        patient(1, "4CH", "half_sequence", "nii.gz"),
        patient(2, "4CH", "ES", "nii.gz"),
    ]
    beside = [
        patient(1, "2CH", "ED_gt", "nii.gz"),
        patient(1, "4CH", "ED", "nii.gz"),
        patient(1, "4CH", "half_sequence_gt", "nii.gz"),
        "patient0001/Info_2CH.cfg",
    ]
    lists = {
        "database_split/subgroup_training.txt": "patient0002\n",
        "database_split/subgroup_testing.txt": "patient0001\n",
    }
    tree = {f"database_nifti/{name}": "" for name in [*pictures, *beside]} | lists
    found = listed("camus", tmp_path, tree)
    assert found.rows == {
        f"database_nifti/{pictures[0]}": LabelRow("2CH", "test", "patient0001"),
        f"database_nifti/{pictures[1]}": LabelRow("4CH", "test", "patient0001"),
        f"database_nifti/{pictures[2]}": LabelRow("4CH", "train", "patient0002"),
    }
    assert found.views == {"2CH": ("A2C",), "4CH": ("A4C",)}
    assert found.source == "cropped-nifti"
    assert LAYOUTS["camus"](tmp_path / "database_nifti").rows == {
        name.removeprefix("database_nifti/"): row for name, row in found.rows.items()
    }


def test_camus_in_mhd_tests_on_the_testing_folder(tmp_path: Path) -> None:
    one = f"training/{patient(1, '2CH', 'ED', 'mhd')}"
    other = f"testing/{patient(1, '2CH', 'ED', 'mhd').replace('0001', '0002')}"
    found = listed("camus", tmp_path, {one: "", other: "", one.replace("mhd", "raw"): ""})
    assert found.rows == {
        one: LabelRow("2CH", None, "patient0001"),
        other: LabelRow("2CH", "test", "patient0002"),
    }
    assert found.source == "cropped-mhd"


def test_camus_in_png_leaves_the_masks_and_tests_on_the_last_patients(tmp_path: Path) -> None:
    names = ["patient0200_4CH_ED.png", "patient0201_4CH_ES.png"]
    tree = {f"{folder}/{name}": "" for folder in ("images", "masks") for name in names}
    found = listed("camus", tmp_path, tree)
    assert found.rows == {
        f"images/{names[0]}": LabelRow("4CH", None, "patient0200"),
        f"images/{names[1]}": LabelRow("4CH", "test", "patient0201"),
    }


def test_tte47_names_every_view_and_leaves_doubts_open(tmp_path: Path) -> None:
    labels = ["a4ch-ias", "doppler-ao", "mmode-ivc", "psax-all", "not-sure", "strange"]
    tree = {f"{place:02d}_{label}.png": "" for place, label in enumerate(labels)}
    found = listed("tte47", tmp_path, tree | {"manifest.csv": ""})
    assert {row.label for row in found.rows.values()} == set(labels)
    assert {row.split for row in found.rows.values()} == {"test"}
    assert found.views["doppler-ao"] == ("doppler-Ao-descending",)
    assert found.views["mmode-ivc"] == ("mmode-IVC",)
    assert found.views["not-sure"] == found.views["strange"] == ()


def test_tte47_has_a_view_for_each_of_its_47_labels(tmp_path: Path) -> None:
    apical = "a2ch-full a2ch-la a2ch-lv a3ch-full a3ch-la a3ch-lv a3ch-outflow a4ch-full a4ch-la"
    apical += " a4ch-lv a4ch-ias a4ch-ra a4ch-rv a5ch-full a5ch-outflow apex"
    plax = "plax-full-out plax-full-lv plax-full-la plax-full-rv-ao plax-full-mv plax-valves-av"
    plax += " plax-valves-mv plax-tv"
    psax = "psax-all psax-av psax-tv psax-pv psax-lv-base psax-lv-mid psax-lv-apex"
    rest = "subcostal-heart subcostal-ivc suprasternal mmode-a4ch-rv mmode-ivc mmode-plax-av"
    rest += " mmode-plax-lv mmode-plax-mitral doppler-ao-descending doppler-av doppler-mv"
    rest += " doppler-pv doppler-tv doppler-tissue-lateral doppler-tissue-rv doppler-tissue-septal"
    labels = " ".join([apical, plax, psax, rest]).split()
    assert len(labels) == 47
    found = listed(
        "tte47", tmp_path, {f"{n:02d}_{label}.png": "" for n, label in enumerate(labels)}
    )
    assert all(len(found.views[label]) == 1 for label in labels)


def test_tmed2_takes_the_first_fold_of_the_largest_table(tmp_path: Path) -> None:
    header = "query_key,view_label,diagnosis_label,view_classifier_split,SourceFolder\n"
    inside = "view_and_diagnosis_labeled_set/labeled"
    table = (
        f"{header}3s1_0.png,PSAX,x,train,{inside}\n3s2_1.png,A4CorA2CorOther,x,train,{inside}\n"
        f"14s1_0.png,Not_Provided,x,test,{inside}\n9s1_0.png,PLAX,x,val,{inside}\n"
    )
    tree = {
        "DEV479/TMED2_fold0_labeledpart.csv": table,
        "DEV479/TMED2_fold0_unlabeledpart.csv": "query_key\n",
        "DEV165/TMED2_fold0_labeledpart.csv": header,
        "DEV479/TMED2_fold1_labeledpart.csv": header,
        f"{inside}/3s1_0.png": "",
        f"{inside}/3s2_1.png": "",
        f"{inside}/14s1_0.png": "",
        "view_and_diagnosis_labeled_set/unlabeled/3s1_0.png": "",
    }
    found = listed("tmed2", tmp_path, tree)
    views = ("A4C", "A2C", "PLAX", "PSAX")  # of labels that do not occur too
    leaves = {leaf for view in views for leaf in load_ontology().leaves(view)}
    assert set(found.annotated) == leaves
    assert found.rows == {
        f"{inside}/3s1_0.png": LabelRow("PSAX", "train", "3"),
        f"{inside}/3s2_1.png": LabelRow("A4CorA2CorOther", "train", "3"),
        f"{inside}/14s1_0.png": LabelRow("Not_Provided", "test", "14"),
    }
    assert found.views == {
        "PSAX": ("PSAX",),
        "A4CorA2CorOther": ("A4C", "A2C", "other"),
        "Not_Provided": (),
    }


def test_echonet_dynamic_splits_by_its_list(tmp_path: Path) -> None:
    table = "FileName,EF,Split\n0X1,60,TRAIN\n0X2,50,VAL\n0X3,40,TEST\n0X4,30,TEST\n"
    tree = {"FileList.csv": table} | {f"Videos/0X{n}.avi": "" for n in (1, 2, 3, 5)}
    found = listed("echonet_dynamic", tmp_path, tree)
    assert found.rows == {
        "Videos/0X1.avi": LabelRow("A4C", "train"),
        "Videos/0X2.avi": LabelRow("A4C", "val"),
        "Videos/0X3.avi": LabelRow("A4C", "test"),
    }
    assert found.views == {"A4C": ("A4C",)}


def test_echonet_lvh_has_several_lines_a_video(tmp_path: Path) -> None:
    table = "HashedFileName,Calc,split\n0XA,IVSd,train\n0XA,LVIDd,train\n0XB,IVSd,test\n"
    tree = {"MeasurementsList.csv": table, "Batch1/0XA.avi": "", "Batch4/0XB.avi": ""}
    found = listed("echonet_lvh", tmp_path, tree)
    assert found.rows == {
        "Batch1/0XA.avi": LabelRow("PLAX", "train"),
        "Batch4/0XB.avi": LabelRow("PLAX", "test"),
    }


def test_echonet_pediatric_holds_a_patient_of_both_views_together(tmp_path: Path) -> None:
    tree = {
        "pediatric_echo_avi/A4C/FileList.csv": (
            "FileName,EF,Split\nCR1-x-1.avi,6,0\nCR2-x-1.avi,6,8\n"
        ),
        "pediatric_echo_avi/PSAX/FileList.csv": "FileName,EF,Split\nCR1-y-2.avi,6,9.0\n",
        "pediatric_echo_avi/A4C/Videos/CR1-x-1.avi": "",
        "pediatric_echo_avi/A4C/Videos/CR2-x-1.avi": "",
        "pediatric_echo_avi/PSAX/Videos/CR1-y-2.avi": "",
    }
    found = listed("echonet_pediatric", tmp_path, tree)
    assert found.rows == {
        "pediatric_echo_avi/A4C/Videos/CR1-x-1.avi": LabelRow("A4C", "test", "CR1"),
        "pediatric_echo_avi/A4C/Videos/CR2-x-1.avi": LabelRow("A4C", "val", "CR2"),
        "pediatric_echo_avi/PSAX/Videos/CR1-y-2.avi": LabelRow("PSAX", "test", "CR1"),
    }


def test_unity_joins_index_and_lists_by_still(tmp_path: Path) -> None:
    code, other = f"01-{'a' * 64}", f"01-{'b' * 64}"
    tree = {
        f"png-cache/01/aa/aa/{code}-0012.png": "",
        f"png-cache/01/aa/aa/{code}-0040.png": "",
        f"png-cache/01/bb/bb/{other}-0001.png": "",
        "view_index.csv": (
            f"file,view\n{code}-0012.png,plax\n{code}-0040.png,plax\n{other}-0001.png,x9\n"
        ),
        "labels/labels-train.json": json.dumps({f"{code}-0012.png": {}}),
        "labels/labels-test.json": json.dumps({f"{code}-0040.png": {}}),
    }
    found = listed("unity", tmp_path, tree)
    assert found.rows == {
        f"png-cache/01/aa/aa/{code}-0012.png": LabelRow("PLAX", "test", code),
        f"png-cache/01/aa/aa/{code}-0040.png": LabelRow("PLAX", "test", code),
        f"png-cache/01/bb/bb/{other}-0001.png": LabelRow("X9", None, other),
    }
    assert found.views == {"PLAX": ("PLAX",), "X9": ()}


@pytest.mark.parametrize("inline", [True, False])
def test_ev9v_reads_labels_in_the_lists_or_beside_them(tmp_path: Path, inline: bool) -> None:
    videos = {
        "2022-07-27_14-06-42_320x240_2": ("train", "PMPALA"),
        "2022-07-27_14-06-42_003_320x240_8": ("validation", "PASA"),
        "2022-07-11_08-22-16_320x240_0": ("test", "SC4C"),
    }
    tree = {f"Videos/{name}.mp4": "" for name in [*videos, "unlisted"]}
    for split in ("train", "validation", "test"):
        named = {name: label for name, (part, label) in videos.items() if part == split}
        lines = [f"{name} {label}" if inline else name for name, label in named.items()]
        tree[f"{split}_labeled.txt" if inline else f"{split}.txt"] = "\n".join(lines)
    if not inline:
        pairs = (f"{name},{label}\n" for name, (_, label) in videos.items())
        tree["labels.csv"] = "names,labels\n" + "".join(pairs)
    found = listed("ev9v", tmp_path, tree)
    assert found.rows == {
        "Videos/2022-07-27_14-06-42_320x240_2.mp4": LabelRow(
            "PMPALA", "val", "2022-07-27_14-06-42"
        ),
        "Videos/2022-07-27_14-06-42_003_320x240_8.mp4": LabelRow(
            "PASA", "val", "2022-07-27_14-06-42"
        ),
        "Videos/2022-07-11_08-22-16_320x240_0.mp4": LabelRow("SC4C", "test", "2022-07-11_08-22-16"),
    }
    assert found.views["PASA"] == ("PSAX",)


MIMIC = {
    "echo-record-list.csv": (
        "subject_id,study_id,acquisition_datetime,dicom_filepath\n"
        "10,90,2180-01-01,files/p10/p10/s90/90_0001.dcm\n"
        "10,90,2180-01-01,files/p10/p10/s90/90_0002.dcm\n"
        "11,91,2180-01-01,files/p11/p11/s91/91_0001.dcm\n"
    ),
    "files/p10/p10/s90/90_0001.dcm": "",
    "files/p10/p10/s90/90_0002.dcm": "",
}


def test_mimic_is_labelled_by_echoview_where_it_is_sure(tmp_path: Path) -> None:
    table = (
        "dicom_filepath,plax_far,a4c_laocc,note\nx/90_0001.dcm,0.1,0.8,n\nx/90_0002.dcm,0.5,0.4,n\n"
    )
    found = listed("mimic_iv_echo", tmp_path, MIMIC | {"ECHOVIEW.csv": table})
    assert found.rows == {
        "files/p10/p10/s90/90_0001.dcm": LabelRow("a4c_laocc", None, "10"),
        "files/p10/p10/s90/90_0002.dcm": LabelRow("", None, "10"),
    }
    assert found.views == {"a4c_laocc": ("A4C-LV",)}
    assert found.source == "dicom"


def test_mimic_without_echoview_has_no_labels(tmp_path: Path) -> None:
    found = listed("mimic_iv_echo", tmp_path, MIMIC)
    assert {row.label for row in found.rows.values()} == {""}
    assert found.views == {}


@pytest.mark.parametrize(
    "table", ["who,a4c\n90_0001,1\n", "file,b\n90_0001,1\n", "file,a4c\nx,?\n"]
)
def test_mimic_refuses_an_echoview_it_cannot_read(tmp_path: Path, table: str) -> None:
    with pytest.raises(EchoFedError) as caught:
        listed("mimic_iv_echo", tmp_path, MIMIC | {"echoview.csv": table})
    assert caught.value.code is Code.CONFIG_INVALID


def test_foreign_organs_have_views_and_patients_of_their_own(tmp_path: Path) -> None:
    lung = listed(
        "lung_pocus",
        tmp_path / "lung",
        {
            "images/a.png": "",
            "manifest.csv": "file,patient_guess,label\na.png,v1,regular\nb.png,v,x\n",
        },
    )
    assert lung.rows == {"images/a.png": LabelRow("regular", None, "v1")}
    assert lung.views == {"regular": ("lung",)}
    muscle = listed(
        "muscle_timtrack",
        tmp_path / "muscle",
        {"images/a.jpg": "", "manifest.csv": "file,sequence\na.jpg,paper/S1\n"},
    )
    assert muscle.rows == {"images/a.jpg": LabelRow("muscle", None, "paper/S1")}
    fetal = listed(
        "fetal_hc18",
        tmp_path / "fetal",
        dict.fromkeys(
            [
                "training_set/010_HC.png",
                "training_set/010_2HC.png",
                "training_set/010_HC_Annotation.png",
                "test_set/011_HC.png",
                "masks/012_HC.png",
            ],
            "",
        ),
    )
    assert fetal.rows == {
        "training_set/010_HC.png": LabelRow("HC", None, "010"),
        "training_set/010_2HC.png": LabelRow("HC", None, "010"),
        "test_set/011_HC.png": LabelRow("HC", "test", "011"),
    }


def test_a_table_of_another_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EchoFedError, match="Split") as caught:
        listed("echonet_dynamic", tmp_path, {"FileList.csv": "FileName,EF\n0X1,60\n"})
    assert caught.value.code is Code.CONFIG_INVALID


def test_every_line_of_the_tables_loads() -> None:
    assert all(callable(LAYOUTS[name]) for name in LAYOUTS.names())
    assert all(hasattr(SOURCES[name], "open") for name in SOURCES.names())
    assert load_ontology().find("fetal-head").id == "fetal-head"
