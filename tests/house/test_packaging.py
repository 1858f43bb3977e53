"""The installed packages are ours, and the README tells of every code and both commands."""

import re
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from shared.errors import Code
from shared.rpc.translate import STATUS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["shared", "site_client", "aggregator"])
def test_the_package_is_ours_alone(name: str) -> None:
    assert set(packages_distributions()[name]) == {"echofed"}
    assert __import__(name).__file__ is not None


def test_every_error_code_has_a_row_in_the_readme() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| `([A-Z_]+)` \|", (ROOT / "README.md").read_text(), re.M))
    assert rows == {str(int(code)): code.name for code in Code}


def test_the_readme_has_the_status_of_every_code() -> None:
    found = re.findall(r"^\| `([A-Z_]+)` \| ([\d, ]+) \|$", (ROOT / "README.md").read_text(), re.M)
    rows = {int(code): status for status, codes in found for code in codes.split(", ")}
    assert rows == {int(code): status.name for code, status in STATUS.items()}


def test_tests_have_no_packages_so_that_they_cannot_shadow_ours() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_no_tracked_text_names_a_patient_file_of_the_real_data() -> None:
    texts = [*ROOT.glob("*.md"), *(ROOT / "deploy").rglob("*.yaml")]
    assert not [path for path in texts if re.search(r"patient\d{4}_", path.read_text())]
