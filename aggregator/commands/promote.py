"""``echofed-aggregator promote`` and ``rollback``: which fusion the sites use, by whom and why."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from aggregator.centre import Centre
from aggregator.commands.assessment import assessment_tables
from aggregator.commands.options import (
    CONFIG_FILE,
    ActorOption,
    ConfigOption,
    JsonOption,
    SetOption,
    actor_or_account,
    open_for_command,
)
from shared.console import emit, table
from shared.errors import Code, EchoFedError

log = logging.getLogger(__name__)
ReasonOption = Annotated[str, typer.Option(help="Why; stands in the ledger.")]


def promote(
    reason: ReasonOption,
    fusion: Annotated[str, typer.Argument(help="Id; the candidate by default.")] = "",
    actor: ActorOption = "",
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold a fusion against the change plan, then move the serving alias and send it to sites."""
    from aggregator.change_control import assess
    from aggregator.promotion import candidate_fusion
    from aggregator.promotion import promote as move

    centre = open_for_command(config, overrides)
    chosen = fusion or candidate_fusion(centre)
    assessment = assess(centre, chosen)
    shown = {"assessment": assessment.document()}
    try:
        version = move(centre, assessment, actor=actor_or_account(actor), reason=reason)
    except EchoFedError as error:
        if error.code in (Code.CHANGE_REFUSED, Code.APPROVER_UNKNOWN):
            emit(shown, as_json=as_json, tables=assessment_tables(shown["assessment"]))
        raise
    document = _deliver(centre, config, chosen, version)
    tables = [
        *assessment_tables(shown["assessment"]),
        table("now", ("what", "value"), _facts(document)),
    ]
    emit(document | shown, as_json=as_json, tables=tables)


def rollback(
    reason: ReasonOption,
    actor: ActorOption = "",
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go back to the fusion that served before and send it to the sites."""
    from aggregator.promotion import rollback as go_back

    centre = open_for_command(config, overrides)
    chosen, version = go_back(centre, actor=actor_or_account(actor), reason=reason)
    emit(_deliver(centre, config, chosen, version), as_json=as_json)


def _deliver(centre: Centre, config: Path, fusion: str, version: str) -> dict[str, Any]:
    """Send it; where no federation runs, the sites get it at the next increment."""
    from aggregator.operator import start_delivery

    document: dict[str, Any] = {"fusion": fusion, "model_version": version, "alias": "serving"}
    try:
        return document | {"delivery": start_delivery(centre, config, fusion)}
    except EchoFedError as error:
        if error.code is not Code.CENTRE_UNREACHABLE:
            raise
        log.warning("not delivered: federate does not run; the next increment delivers it")
        return document | {"delivery": None}


def _facts(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key, str(value)) for key, value in document.items()]
