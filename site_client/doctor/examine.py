"""Run the doctor's checks, each whatever became of the others."""

from collections.abc import Callable, Iterator

from shared.errors import Code, EchoFedError
from site_client.doctor import CHECKS
from site_client.doctor.finding import Check, Finding, Premises, fault


def examine(premises: Premises, advance: Callable[[int, str], None]) -> list[tuple[str, Finding]]:
    """All findings with the names of their checks, in the order of the table."""
    found = []
    for name in CHECKS.names():
        advance(0, name)
        found += [(name, finding) for finding in _look(CHECKS[name], premises)]
        advance(1, "")
    return found


def _look(check: Check, premises: Premises) -> Iterator[Finding]:
    try:
        yield from check(premises)
    except EchoFedError as error:
        yield fault(error.code, error.message, error.hint)
    except OSError as error:
        yield fault(
            Code.CONFIG_INVALID,
            f"a file of the site cannot be read ({type(error).__name__})",
            "run as the user that owns the site's folder, or give that user the files",
        )
