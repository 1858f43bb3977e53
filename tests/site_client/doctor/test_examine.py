"""All checks are run whatever one of them meets, and a sound site has no fault."""

from pathlib import Path

import pytest

from shared.errors import Code
from site_client.doctor import CHECKS
from site_client.doctor.examine import examine
from site_client.doctor.finding import Premises


def codes(premises: Premises) -> dict[str, Code]:
    found = examine(premises, lambda units, note: None)
    assert {name for name, _ in found} == set(CHECKS.names())
    return {name: finding.code for name, finding in found if finding.code is not None}


def test_a_sound_site_has_no_fault_and_is_not_changed(premises: Premises) -> None:
    before = {p: p.read_bytes() for p in premises.store.root.rglob("*") if p.is_file()}
    assert codes(premises) == {}
    assert before == {p: p.read_bytes() for p in premises.store.root.rglob("*") if p.is_file()}


def test_one_fault_does_not_hide_the_others(premises: Premises) -> None:
    premises.policy.unlink()
    premises.store.ledger_path.write_bytes(b"x" * 4096)
    (premises.store.identity_folder / "pseudonym.key").unlink()
    assert codes(premises) == {
        "keys": Code.CONFIG_MISSING,
        "policy": Code.CONFIG_MISSING,
        "ledger": Code.LEDGER_BROKEN,
    }


def test_a_file_that_may_not_be_read_is_a_fault(
    premises: Premises, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *arguments: object, **options: object) -> str:
        raise PermissionError(13, "no", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    found = codes(premises)
    assert (found["keys"], found["policy"]) == (Code.CONFIG_INVALID, Code.CONFIG_INVALID)
