"""Whether the site's certificate is there, of this key and this centre, and lasts."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from shared.errors import Code
from site_client.doctor.finding import Finding, Premises, fault, fine, warn
from site_client.identity import Identity, certificate_key, expect_certificate, public_key

_SOON = timedelta(days=30)
_NEW_KIT = "ask the centre for a new kit and run init with it; the node key stays"


def check(premises: Premises) -> Iterator[Finding]:
    """Certificate, its end, its key, and the authority it comes from."""
    if premises.address is None:
        yield fine("the site is standalone and needs no certificate")
        return
    identity = Identity(premises.store.identity_folder)
    try:
        end = expect_certificate(identity, now=premises.now)
        belongs = _come_together(identity)
        authority_end = x509.load_pem_x509_certificate(identity.ca.read_bytes()).not_valid_after_utc
    except (FileNotFoundError, ValueError, TypeError):
        yield fault(Code.CHECKPOINT_CORRUPT, "certificate, ca.pem or tls.key is damaged", _NEW_KIT)
        return
    yield _look_at_end(end, premises.now)
    if authority_end < premises.now:
        yield fault(Code.CERTIFICATE_EXPIRED, "the centre's authority has ended", "tell the centre")
    if belongs:
        yield fine("the certificate is for this site's key and from its centre")
    else:
        yield fault(
            Code.IDENTITY_MISMATCH, "the certificate is for another key or centre", _NEW_KIT
        )


def _come_together(identity: Identity) -> bool:
    own = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
    try:
        own.verify_directly_issued_by(x509.load_pem_x509_certificate(identity.ca.read_bytes()))
    except (InvalidSignature, ValueError):  # ValueError: the issuer's name is another
        return False
    return certificate_key(own) == public_key(identity)


def _look_at_end(end: datetime, now: datetime) -> Finding:
    text = f"the certificate ends on {end:%Y-%m-%d}, in {(end - now).days} days"
    return warn(text, _NEW_KIT) if end - now < _SOON else fine(text)
