"""Whether ``shared`` and its neighbours are ours: a stray package of that name wins silently."""

import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

from shared.errors import Code
from site_client.doctor.finding import Finding, Premises, fault, fine, warn

_PACKAGES = ("shared", "site_client", "aggregator")
_DISTRIBUTION = "echofed"


def check(premises: Premises) -> Iterator[Finding]:
    """Each package is the one that was installed with this program, and stands on the path once."""
    owners = _owners()
    for name in _PACKAGES:
        spec = find_spec(name)
        strangers = sorted(set(owners.get(name, [])) - {_DISTRIBUTION})
        if strangers:
            yield fault(
                Code.ALREADY_EXISTS,
                f"{' and '.join(strangers)} also brought a package called {name}",
                f"uninstall {strangers[0]} and install echofed again, in an environment of its own",
            )
        elif spec is None or spec.origin is None:
            yield fault(
                Code.ALREADY_EXISTS,
                f"a folder called {name} stands before the installed package",
                "start by echofed-site and not by python -m, from another folder",
            )
        else:
            yield _look_along_path(name, Path(spec.origin).parent)


@cache
def _owners() -> Mapping[str, list[str]]:
    """Which distributions brought which packages; reading them all takes half a second."""
    return packages_distributions()


def _look_along_path(name: str, ours: Path) -> Finding:
    places = [Path(entry or ".") for entry in sys.path]
    strays = {
        place.resolve()
        for place in places
        if ((place / name).is_dir() or (place / f"{name}.py").is_file())
        and (place / name).resolve() != ours.resolve()
    }
    if strays:
        return warn(
            f"{len(strays)} other folder(s) on Python's path hold something called {name}",
            f"take it out of {min(strays)}, or that folder off PYTHONPATH",
        )
    return fine(f"{name} is ours and stands once on the path")
