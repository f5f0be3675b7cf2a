"""Names and addresses of hosts, in the forms that DNS, TLS and HTTP have for them."""

from __future__ import annotations

import re
import unicodedata

_LONGEST_NAME, _LONGEST_LABEL = 253, 63
"""Characters (RFC 1035 section 2.3.4), without a trailing dot."""
_LABEL = re.compile(r"[a-z0-9_~!$&'()*+,;=-]+")
_JOINERS = "\u200c\u200d"
_RIGHT_TO_LEFT = ("R", "AL", "AN")


def ascii_host(host: str) -> str:
    """Return the name or address of a host in ASCII and lower case. An IPv6 address has no brackets, and is not
    checked.

    An international name is encoded as browsers do it: by UTS #46 without transitional mapping, so that ß and ς stay
    letters of their own, as in IDNA 2008, and with symbols such as emoji, which IDNA 2008 leaves out. Labels in ASCII
    are taken as they are, and so is a trailing dot. Raises ValueError if it can't be the name of a host.
    """
    if ":" in host:
        return host.lower().replace("%25", "%")
    try:
        name = host.lower() if host.isascii() else _encode(host)
        _check(name)
    except ValueError as error:
        raise ValueError(f"{host!r} can't be the name of a host: {error}") from None
    return name


def certificate_name(host: str) -> str:
    """Return the name, or address, that a certificate has for the host, and that is sent for SNI: without a trailing
    dot (RFC 6066 section 3) and, for an IPv6 address, without its zone."""
    return host.removesuffix(".").partition("%")[0]


def in_brackets(host: str) -> str:
    """Return `host` as a URI has it: an IPv6 address in brackets, without its zone (RFC 6874 section 3)."""
    return f"[{host.partition('%')[0]}]" if ":" in host else host


def _encode(host: str) -> str:
    """Encode an international name by UTS #46 section 4, with the flags that the URL Standard sets for browsers:
    UseSTD3ASCIIRules and CheckHyphens are false, CheckBidi and CheckJoiners true."""
    import idna  # its tables take time and memory, and most names are in ASCII

    labels = idna.uts46_remap(host, std3_rules=False).split(".")
    right_to_left = any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for label in labels for char in label)
    for label in filter(None, labels):
        idna.check_bidi(label, check_ltr=right_to_left)
        idna.check_initial_combiner(label)
        for position, char in enumerate(label):
            if char in _JOINERS and not idna.valid_contextj(label, position):
                raise ValueError(f"U+{ord(char):04X} must not stand at position {position + 1} of {label!r}")
    return ".".join(label if label.isascii() else f"xn--{label.encode('punycode').decode()}" for label in labels)


def _check(name: str) -> None:
    """Raise ValueError if `name`, in ASCII and lower case, can't be looked up."""
    name = name.removesuffix(".")
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"it is longer than {_LONGEST_NAME} characters")
    for label in name.split("."):
        if not label:
            raise ValueError("there is nothing between two dots" if name else "there is nothing but a dot")
        if len(label) > _LONGEST_LABEL:
            raise ValueError(f"a part of it is longer than {_LONGEST_LABEL} characters")
        if not _LABEL.fullmatch(label):
            raise ValueError("it has characters that a name can't have")
