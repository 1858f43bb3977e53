"""Whether this clock can be right, by what is on record here; the centre is asked apart."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from cryptography import x509

from shared.errors import Code
from site_client.doctor.finding import Finding, Premises, fault, fine
from site_client.doctor.record import sound_entries
from site_client.identity import Identity

_SLACK = timedelta(seconds=5)  # clocks are corrected by as much in passing
_MEND = "set the clock by NTP (timedatectl set-ntp true), then run doctor again"


def check(premises: Premises) -> Iterator[Finding]:
    """The clock stands behind the newest ledger entry and behind the certificate's first day."""
    entries = sound_entries(premises.store.ledger_path)
    last = datetime.fromisoformat(entries[-1].time) if entries else None
    if last is not None and premises.now < last - _SLACK:
        yield fault(
            Code.CONFIG_INVALID,
            f"the clock says {_text(premises.now)}, but the ledger has an entry of {_text(last)}",
            _MEND,
        )
        return
    begin = _certificate_begin(premises)
    if begin is not None and premises.now < begin:
        yield fault(
            Code.CERTIFICATE_EXPIRED,
            f"the clock says {_text(premises.now)}, before the certificate's first day",
            _MEND,
        )
        return
    yield fine(f"the clock says {_text(premises.now)}, after all that is on record here")


def _certificate_begin(premises: Premises) -> datetime | None:
    path = Identity(premises.store.identity_folder).certificate
    if not path.is_file():
        return None
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_before_utc
    except ValueError:
        return None


def _text(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
