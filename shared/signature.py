"""The centre's signature on a card, which names the hash of its weights.

ECDSA (FIPS 186-5) over SHA-384 by the key of the centre's authority, whose certificate every site
got in its kit. What is signed begins with its purpose; a certificate, which begins with the DER tag
of a sequence, can never pass for a card, nor a card for a certificate.
"""

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from shared.errors import Code, EchoFedError

SIGNATURE_FILE = "card.sig"
_PURPOSE = b"echofed-card-v1\0"


def sign_card(card: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Sign the bytes of a card in JSON."""
    return key.sign(_PURPOSE + card, ec.ECDSA(hashes.SHA384()))


def expect_signed(card: bytes, signature: bytes, *, ca_pem: bytes) -> None:
    """Check that a centre signed a card.

    Args:
        card: bytes of the card as they came.
        signature: what came with it.
        ca_pem: certificate of the centre's authority.

    Raises:
        EchoFedError: SIGNATURE_INVALID for an altered or unsigned card, and for one that somebody
            else signed.
    """
    if not signature:
        raise _refused("is not signed")
    key = x509.load_pem_x509_certificate(ca_pem).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    try:
        key.verify(signature, _PURPOSE + card, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        raise _refused("was altered, or another centre signed it") from None


def _refused(why: str) -> EchoFedError:
    return EchoFedError(
        Code.SIGNATURE_INVALID,
        f"the card of a model {why}",
        "fetch it again from the centre of this site's kit",
    )
