"""The centre's Flower app: one run is one action, and its outcome is written to a file."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from aggregator.rounds import ACTIONS
from shared.errors import Code, EchoFedError
from shared.files import write_json

log = logging.getLogger(__name__)

Action = Callable[[Grid, Path, dict[str, Any]], dict[str, Any]]

app = ServerApp()


@app.main()  # type: ignore[untyped-decorator]
def main(grid: Grid, context: Context) -> None:
    """Run the action that the run configuration names.

    The run configuration holds ``config`` (path of ``aggregator.yaml``), ``action`` (a name of
    ``ACTIONS``), ``request`` (JSON object handed to the action) and ``outcome`` (path of the file
    that says how it went).
    """
    run = context.run_config
    outcome = Path(str(run["outcome"]))
    try:
        action: Action = ACTIONS[str(run["action"])]
        result = action(grid, Path(str(run["config"])), json.loads(str(run["request"])))
    except EchoFedError as error:
        write_json(
            outcome, {"error": int(error.code), "message": error.message, "hint": error.hint}
        )
        raise
    except Exception:
        log.exception("action %s failed", run["action"])
        write_json(
            outcome,
            {"error": int(Code.INTERNAL), "message": "the action failed", "hint": "see the log"},
        )
        raise
    write_json(outcome, {"result": result})
