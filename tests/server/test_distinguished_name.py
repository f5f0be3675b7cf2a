"""Subjects of certificates as text: the examples of RFC 4514, and certificates that another library made."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from flowserve.server.distinguished_name import subject_of

UTF8, PRINTABLE, BMP, OCTETS = 12, 19, 30, 4
CN, L, OU, DC, UID, SN = "550403", "550407", "55040b", "0992268993f22c640119", "0992268993f22c640101", "550404"


def element(tag: int, content: bytes) -> bytes:
    size = len(content)
    return bytes([tag]) + (bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")) + content


def sequence(*parts: bytes) -> bytes:
    return element(0x30, b"".join(parts))


def relative(*attributes: tuple[str, int, bytes]) -> bytes:
    """One RelativeDistinguishedName of (object identifier, tag, value)."""
    pairs = [sequence(element(6, bytes.fromhex(oid)), element(tag, value)) for oid, tag, value in attributes]
    return element(0x31, b"".join(pairs))


def certificate(*names: bytes, version: bool = True) -> bytes:
    """As much of a certificate as stands before the subject, and that."""
    before = [element(2, b"\1"), sequence(), sequence(), sequence()]
    if version:
        before.insert(0, element(0xA0, element(2, b"\2")))
    return sequence(sequence(*before, sequence(*names)))


NET, EXAMPLE = relative((DC, 22, b"net")), relative((DC, 22, b"example"))


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        ([NET, EXAMPLE, relative((UID, UTF8, b"jsmith"))], "UID=jsmith,DC=example,DC=net"),
        (
            [NET, EXAMPLE, relative((OU, UTF8, b"Sales"), (CN, UTF8, b"J.  Smith"))],
            "OU=Sales+CN=J.  Smith,DC=example,DC=net",
        ),
        (
            [NET, EXAMPLE, relative((CN, UTF8, b'James "Jim" Smith, III'))],
            'CN=James \\"Jim\\" Smith\\, III,DC=example,DC=net',
        ),
        ([NET, EXAMPLE, relative((CN, UTF8, b"Before\rAfter"))], "CN=Before\\0dAfter,DC=example,DC=net"),
        ([relative(("2b060104018b3a00", OCTETS, b"Hi"))], "1.3.6.1.4.1.1466.0=#04024869"),
        ([relative((SN, UTF8, "Lučić".encode()))], "sn=Lučić"),
    ],
)
@pytest.mark.parametrize("version", [True, False])
def test_the_examples_of_rfc_4514(names, text, version):
    assert subject_of(certificate(*names, version=version)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (" a ", "\\ a\\ "),
        ("#a#", "\\#a#"),
        (" ", "\\ "),
        ("a+b,c;d<e>f\\g", "a\\+b\\,c\\;d\\<e\\>f\\\\g"),
        ("a=b", "a=b"),
        ("\0", "\\00"),
        ("x\n", "x\\0a"),
        ("日本", "日本"),
    ],
)
def test_what_is_escaped(value, text):
    assert subject_of(certificate(relative((CN, UTF8, value.encode())))) == f"CN={text}"


def test_kinds_of_text():
    for tag, encoding in ((PRINTABLE, "ascii"), (BMP, "utf-16-be"), (28, "utf-32-be"), (20, "latin-1")):
        value = "Ada" if encoding == "ascii" else "Adä"
        assert subject_of(certificate(relative((CN, tag, value.encode(encoding))))) == f"CN={value}"
    assert subject_of(certificate(relative((CN, UTF8, b"\xff")))) == "CN=#0c01ff", "not UTF-8: as it stands"
    assert subject_of(certificate(relative((CN, OCTETS, b"a")))) == "CN=#040161", "no text: as it stands"


def test_long_values():
    assert subject_of(certificate(relative((CN, UTF8, b"x" * 1000)))) == "CN=" + "x" * 1000


def made_by_another_library(*names: x509.RelativeDistinguishedName) -> tuple[bytes, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(x509.Name(names)).issuer_name(x509.Name([]))
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(1))
    signed = builder.public_key(key.public_key()).serial_number(1).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER), signed.subject.rfc4514_string()


def test_a_certificate_of_another_library():
    kinds = [
        (NameOID.COUNTRY_NAME, "DE"),
        (NameOID.STATE_OR_PROVINCE_NAME, "Berlin"),
        (NameOID.LOCALITY_NAME, "Berlin, Mitte"),
        (NameOID.ORGANIZATION_NAME, " Müller + Söhne "),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "#1"),
        (NameOID.STREET_ADDRESS, 'Straße "1"'),
        (NameOID.USER_ID, "ada"),
        (NameOID.COMMON_NAME, "ada"),
    ]
    names = [x509.RelativeDistinguishedName([x509.NameAttribute(*each)]) for each in kinds]
    names.append(
        x509.RelativeDistinguishedName(
            [x509.NameAttribute(NameOID.COMMON_NAME, "a"), x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "b")]
        )
    )
    der, text = made_by_another_library(*names)
    assert subject_of(der) == text


def test_a_type_without_a_registered_name_is_a_number():
    pair = x509.NameAttribute(NameOID.EMAIL_ADDRESS, "a@b")
    der, _ = made_by_another_library(x509.RelativeDistinguishedName([pair]))
    assert subject_of(der) == "1.2.840.113549.1.9.1=#1603614062"


WHOLE = certificate(NET, EXAMPLE, relative((OU, UTF8, b"Sales"), (CN, UTF8, b"J.  Smith")))


@given(st.binary(max_size=200))
def test_nothing_raises(data):
    assert isinstance(subject_of(data), str | None)


@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=3))
def test_nothing_raises_in_something_like_a_certificate(at, instead):
    assert isinstance(subject_of(WHOLE[:at] + instead + WHOLE[at + len(instead) :]), str | None)


@pytest.mark.parametrize("size", range(len(WHOLE)))
def test_a_certificate_cut_short(size):
    assert subject_of(WHOLE[:size]) is None
