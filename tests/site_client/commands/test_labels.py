"""``echofed-site labels``: lists, writes a draft once, and never over a map that may be signed."""

import json
from pathlib import Path

from typer.testing import CliRunner

from shared.errors import Code, EchoFedError
from site_client.cli import build_app

RUNNER = CliRunner()


def test_labels_are_listed_and_a_draft_is_written_once(tmp_path: Path) -> None:
    site = tmp_path / "north"
    RUNNER.invoke(build_app(), ["init", "--standalone", str(site)])
    (tmp_path / "labels.csv").write_text("file,label\na,AP4\nb,[odd]\n")
    out = tmp_path / "labels.yaml"
    words = ["labels", str(tmp_path), "--config", str(site / "site.yaml")]
    said = RUNNER.invoke(build_app(), [*words, "--out", str(out), "--json"])
    assert said.exit_code == 0, said.output
    document = json.loads(said.stdout)
    assert document["labels"][0] == {"label": "AP4", "files": 1, "proposed": "A4C", "nearest": []}
    assert '#  "AP4": A4C' in out.read_text("utf-8")
    assert "[odd]" in RUNNER.invoke(build_app(), words).stdout
    out.write_text("AP4: A4C  # signed\n")
    again = RUNNER.invoke(build_app(), [*words, "--out", str(out)]).exception
    assert isinstance(again, EchoFedError)
    assert again.code is Code.ALREADY_EXISTS
    assert "signed" in out.read_text("utf-8")
