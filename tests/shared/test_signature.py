"""A card is believed when the key of the kit's authority signed these very bytes as a card."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared.errors import Code, EchoFedError
from shared.rpc.authority import create_authority, sign_model_card
from shared.signature import expect_signed

CARD = b'{"id": "north-unet-1", "weights_sha256": "00"}'


def is_refused(card: bytes, signature: bytes, ca_pem: bytes) -> bool:
    with pytest.raises(EchoFedError) as caught:
        expect_signed(card, signature, ca_pem=ca_pem)
    return caught.value.code is Code.SIGNATURE_INVALID


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("authorities")


def test_any_changed_byte_and_any_other_authority_is_refused(folder: Path) -> None:
    ours, theirs = (
        create_authority(folder / name, name, now=datetime.now(UTC)) for name in ("a", "b")
    )
    signature, ca_pem = sign_model_card(ours, CARD), ours.ca_pem.read_bytes()
    expect_signed(CARD, signature, ca_pem=ca_pem)
    for place in range(len(CARD)):
        altered = CARD[:place] + bytes([CARD[place] ^ 1]) + CARD[place + 1 :]
        assert is_refused(altered, signature, ca_pem)
    for wrong in (b"", b"\0", signature[:-1], signature + b"\0", sign_model_card(theirs, CARD)):
        assert is_refused(CARD, wrong, ca_pem)
    assert is_refused(CARD, signature, theirs.ca_pem.read_bytes())


def test_what_the_authority_signs_for_other_ends_signs_no_card(folder: Path) -> None:
    authority = create_authority(folder / "c", "c", now=datetime.now(UTC))
    ca_pem = authority.ca_pem.read_bytes()
    certificate = x509.load_pem_x509_certificate(ca_pem)
    assert is_refused(certificate.tbs_certificate_bytes, certificate.signature, ca_pem)
    key = serialization.load_pem_private_key(authority.ca_key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert is_refused(CARD, key.sign(CARD, ec.ECDSA(hashes.SHA384())), ca_pem)
