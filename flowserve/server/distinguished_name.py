"""The subject of a certificate as text (RFC 4514), parsed from DER: ssl.getpeercert() has lost the ASN.1 types."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_DESCRIPTORS = {
    "2.5.4.3": "CN",
    "2.5.4.4": "sn",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.13": "description",
    "2.5.4.15": "businessCategory",
    "2.5.4.17": "postalCode",
    "2.5.4.41": "name",
    "2.5.4.42": "givenName",
    "2.5.4.43": "initials",
    "2.5.4.44": "generationQualifier",
    "2.5.4.46": "dnQualifier",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.3": "mail",
    "0.9.2342.19200300.100.1.25": "DC",
}
"""The short names of attribute types that are registered for LDAP, by OID (RFC 4514 section 3, RFC 4519, RFC 4524)."""

_STRING_ENCODINGS = {
    12: "utf-8",
    18: "ascii",
    19: "ascii",
    20: "latin-1",
    22: "ascii",
    26: "ascii",
    28: "utf-32-be",
    30: "utf-16-be",
}
"""The encodings of the ASN.1 string types, by their tags."""

_VERSION_TAG = 0xA0
_SPECIAL = re.compile(r'[,+"\\<>;]|^[# ]| \Z')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class _Element(NamedTuple):
    tag: int
    content: bytes
    whole: bytes


def subject_of(certificate: bytes) -> str | None:
    """Return the subject of a DER certificate as RFC 4514 writes it, most specific part first: CN=ada,O=Example.

    Returns None if the certificate can't be parsed.
    """
    try:
        signed = next(_elements(next(_elements(certificate)).content))
        parts = list(_elements(signed.content))
        if parts[0].tag == _VERSION_TAG:
            del parts[0]
        # serialNumber, signature, issuer, validity, subject (RFC 5280 section 4.1)
        return ",".join(reversed([_relative_name(each.content) for each in _elements(parts[4].content)]))
    except (ValueError, IndexError, StopIteration):
        return None


def _relative_name(data: bytes) -> str:
    """Return a RelativeDistinguishedName as text: usually one attribute, several are joined by +."""
    attributes = []
    for attribute in _elements(data):
        kind, value = _elements(attribute.content)
        attributes.append(_attribute(_decode_oid(kind.content), value))
    return "+".join(attributes)


def _attribute(oid: str, value: _Element) -> str:
    descriptor, encoding = _DESCRIPTORS.get(oid), _STRING_ENCODINGS.get(value.tag)
    if descriptor is not None and encoding is not None:
        try:
            return f"{descriptor}={_escape(value.content.decode(encoding))}"
        except UnicodeDecodeError:
            pass
    return f"{descriptor or oid}=#{value.whole.hex()}"


def _escape(text: str) -> str:
    escaped = _SPECIAL.sub(lambda match: "\\" + match[0], text)
    # a NUL must be escaped (section 2.4); other control characters may be, and could forge a log line
    return _CONTROL.sub(lambda match: f"\\{ord(match[0]):02x}", escaped)


def _decode_oid(data: bytes) -> str:
    """Decode an object identifier (X.690 section 8.19)."""
    numbers, number = [], 0
    for byte in data:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def _elements(data: bytes) -> Iterator[_Element]:
    """Yield the consecutive elements of `data` (X.690 section 8.1). Raises ValueError and IndexError."""
    position = 0
    while position < len(data):
        start, tag, length = position, data[position], data[position + 1]
        position += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[position : position + size], "big")
            position += size
        if len(data) - position < length:
            raise ValueError("an element is cut short")
        yield _Element(tag, data[position : position + length], data[start : position + length])
        position += length
