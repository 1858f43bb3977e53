"""Whether the centre can be reached as the node reaches it, and agrees about the time."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from shared.errors import Code
from site_client.doctor.finding import Finding, Premises, fault, fine, warn
from site_client.identity import Identity
from site_client.launch import probe, way_to

# Flower refuses a signature from more than 5 s in the future or 305 s in the past of the centre
# (flwr SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE); the Date header is cut to whole seconds.
_AHEAD = timedelta(seconds=6)
_BEHIND = timedelta(seconds=300)
_NOTED = timedelta(seconds=3)


def check(premises: Premises) -> Iterator[Finding]:
    """One TLS connection with the site's certificate, and the Date of what comes back."""
    if premises.address is None:
        yield fine("the site belongs to no federation")
        return
    identity = Identity(premises.store.identity_folder)
    if not (identity.certificate.is_file() and identity.ca.is_file()):
        yield warn("the centre was not asked: there is no certificate", "import one with init")
        return
    theirs = probe(identity, premises.address)
    ours = datetime.now(theirs.tzinfo) if theirs else None
    yield fine(f"the centre at {way_to(premises.address)} answers and lets this site in")
    if theirs is None or ours is None:
        yield warn("the centre does not tell the time", "compare the clocks by hand")
    else:
        yield _compare(ours - theirs)


def _compare(ahead: timedelta) -> Finding:
    seconds = ahead.total_seconds()
    side = "ahead of" if seconds > 0 else "behind"
    text = f"this machine's clock is {abs(seconds):.0f} s {side} the centre's"
    mend = "set both clocks by NTP (timedatectl set-ntp true)"
    if ahead > _AHEAD or ahead < -_BEHIND:
        return fault(Code.NODE_REFUSED, f"{text}: signed requests will be refused", mend)
    return warn(text, mend) if abs(ahead) > _NOTED else fine(text)
