"""``echofed-site forget``: one patient's clips, and what was made of them, go."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from shared.console import emit, table
from shared.errors import Code, EchoFedError
from site_client.commands.options import (
    CONFIG_FILE,
    ConfigOption,
    JsonOption,
    SetOption,
    Site,
    open_site,
)

_AFTERWARDS = (
    "take the patient's files out of the folders that are ingested, or ingest brings them back",
    "the centre's bank holds rows of the old content until the next increment",
    "backups of this site's folder are not touched",
)


def forget(
    dataset: Annotated[
        list[str] | None, typer.Option(help="Where to look; repeatable. Default: every dataset.")
    ] = None,
    id_file: Annotated[
        Path | None,
        typer.Option(help="File that holds the hospital's patient id; else it is asked for."),
    ] = None,
    issuer: Annotated[
        str, typer.Option(help="Who gave the id, where the files say (IssuerOfPatientID).")
    ] = "",
    pseudonym: Annotated[
        str, typer.Option(help="The patient's key at this site, in place of the hospital's id.")
    ] = "",
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase a patient; the id is asked for, so that it stands in no history of commands."""
    from site_client.forget import forget as erase
    from site_client.quarantine import held_clips

    site = open_site(config, overrides)
    patient = _patient(site, id_file, issuer, pseudonym)
    known = [*site.store.datasets(), *(note.dataset for note in held_clips(site.store))]
    datasets = tuple(dict.fromkeys(dataset or known))
    done = erase(site.store, patient, datasets, site=site.settings.site)
    documents = [one.document() for one in done]
    stale = sorted({name for one in done for name in (*one.experts, *one.experts_earlier)})
    models = sorted({name for one in done for name in one.models})
    afterwards = [*_AFTERWARDS, *(f"train expert {name} again or withdraw it" for name in stale)]
    afterwards += [f"train {name} again, and delete what it drew" for name in models]
    document = {"forgotten": documents, "afterwards": afterwards}
    emit(document, as_json=as_json, tables=_tables(documents, afterwards))


def _patient(site: Site, id_file: Path | None, issuer: str, pseudonym: str) -> str:
    from site_client.forget import patient_key

    if pseudonym and (id_file is not None or issuer):
        raise EchoFedError(
            Code.CONFIG_INVALID,
            "--pseudonym takes the place of the hospital's id",
            "leave --id-file and --issuer out",
        )
    if pseudonym:
        return pseudonym
    if id_file is None:
        asked: str = typer.prompt("The hospital's patient id", hide_input=True, err=True)
        return patient_key(site.store.key(), asked, issuer)
    if not id_file.is_file():
        raise EchoFedError(
            Code.CONFIG_MISSING, "the file with the patient id does not exist", "check --id-file"
        )
    named = id_file.read_text("utf-8-sig", errors="replace")
    return patient_key(site.store.key(), named, issuer)


def _tables(documents: Sequence[dict[str, object]], afterwards: Sequence[str]) -> list[Table]:
    columns = ("dataset", "clips", "frames", "held", "exports", "content after")
    rows = [(*(d[name] for name in columns[:-1]), str(d["content_after"])[:16]) for d in documents]
    return [
        table("forgotten", columns, rows),
        table("what remains to be done", ("what",), [(text,) for text in afterwards]),
    ]
