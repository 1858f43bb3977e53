"""Whether the C-STORE receiver can speak TLS, where it shall."""

from collections.abc import Iterator
from datetime import timedelta

from cryptography import x509

from shared.errors import Code
from site_client.archive.tls import open_tls
from site_client.doctor.finding import Finding, Premises, fault, fine, warn

_SOON = timedelta(days=30)
_RENEW = "ask the hospital's authority for a new one and replace receive.certificate and key"


def check(premises: Premises) -> Iterator[Finding]:
    """Certificate and key open, belong together and last."""
    if premises.receiver is None:
        yield fine("the receiver has no TLS: let it listen on this machine only")
        return
    open_tls(premises.receiver)
    own = x509.load_pem_x509_certificate(premises.receiver.certificate.read_bytes())
    left = own.not_valid_after_utc - premises.now
    text = f"the receiver's certificate ends on {own.not_valid_after_utc:%Y-%m-%d}"
    if left < timedelta(0):
        yield fault(Code.CERTIFICATE_EXPIRED, text, _RENEW)
    else:
        yield warn(text, _RENEW) if left < _SOON else fine(text)
