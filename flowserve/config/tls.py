"""The declaration of the options of TLS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flowserve.config.kinds import choice, duration, optional, path, switch, text
from flowserve.config.option import option

TLS = "TLS (https and wss)"

_FILE = optional(path())
_CERT_REQS = choice("none", "optional", "required", also={"0": "none", "1": "optional", "2": "required"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSOptions:
    """The part of `Config` for TLS."""

    ssl_certfile: str | None = option(None, _FILE, TLS, "Certificate and its chain (PEM); turns TLS on.")
    ssl_keyfile: str | None = option(None, _FILE, TLS, "Private key (PEM), if not in the certificate's file.")
    ssl_keyfile_password: str | None = option(None, optional(text()), TLS, "Password of the private key.", secret=True)
    ssl_ca_certs: str | None = option(None, _FILE, TLS, "Authorities that clients' certificates are checked by (PEM).")
    ssl_cert_reqs: str = option("none", _CERT_REQS, TLS, "Whether clients are asked for a certificate.")
    ssl_ciphers: str | None = option(
        None, optional(text(printable=True)), TLS, "Ciphers (OpenSSL's notation); by default Python's own."
    )
    ssl_version_min: Literal["TLSv1.2", "TLSv1.3"] = option(
        "TLSv1.2",
        choice(
            "TLSv1.2", "TLSv1.3", also={"1.2": "TLSv1.2", "1.3": "TLSv1.3", "tlsv1.2": "TLSv1.2", "tlsv1.3": "TLSv1.3"}
        ),
        TLS,
        "Oldest version that clients may speak.",
    )
    ssl_handshake_timeout: float = option(10.0, duration(), TLS, "Time a client has for the TLS handshake.")
    ssl_reload: bool = option(False, switch(), TLS, "Load certificate and key anew when their files change.")
