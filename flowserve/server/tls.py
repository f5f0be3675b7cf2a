"""TLS: the context that the --ssl options describe, certificates loaded anew in place, and what scopes say of it."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import ssl
import sys
from typing import Any

from flowserve.config import Config
from flowserve.errors import ConfigError
from flowserve.logs.loggers import logger
from flowserve.server.distinguished_name import subject_of

_CERT_REQS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_OLDEST = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
_VERSIONS = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_LOOK = 1.0
"""Seconds between looks at the files for --ssl-reload. A change is taken up when it has stood still for one of them,
since certificate and key are seldom written in the same moment."""

_SHUTDOWN = 86400.0
"""Seconds that the event loop gives a connection's end, with all that is still to be sent: it must not cut what a slow
client is taking. Whether it does is looked at by the connection's own deadlines."""

PLAIN_HTTP = "This port speaks TLS; use https:// or wss://"
"""What a client is told that speaks plain HTTP to it."""


class _FileContext(ssl.SSLContext):
    """A context made from the --ssl options."""

    server_cert: str | None = None
    """The certificate that clients are shown, PEM."""


class FrontContext(ssl.SSLContext):
    """What the listening servers hold for good; each new connection is given to the context that is `current`."""

    current: ssl.SSLContext

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        made = self.current.wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        if isinstance(made, _Handshake):
            made.bios = incoming, outgoing
        return made


class _Handshake(ssl.SSLObject):
    """An SSLObject that tells a client why its handshake failed.

    Event loops end a failed handshake without a word: OpenSSL's alert stays unsent, and a client that forgot the s of
    https hears nothing. So a failed handshake passes for one that succeeded, of a connection that nothing can be
    read from any more, and whoever serves it finds the `failure` and closes it.
    """

    bios: tuple[ssl.MemoryBIO, ssl.MemoryBIO] | None = None
    failure: str | None = None

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            if self.bios is None:
                raise
            incoming, outgoing = self.bios
            if _is_http(error, incoming):
                self.failure = PLAIN_HTTP
            elif outgoing.pending:
                self.failure = str(error)
            else:
                raise
            # What SSLObject stands on. Overriding its methods instead would cost each read and write of all others.
            self._sslobj = _Failed(incoming, outgoing)
        self.bios = None


def _is_http(error: ssl.SSLError, incoming: ssl.MemoryBIO) -> bool:
    if error.reason in ("HTTP_REQUEST", "HTTPS_PROXY_REQUEST"):
        return True
    # OpenSSL knows a few methods only, and takes the first bytes of others for a record's header
    return error.reason == "WRONG_VERSION_NUMBER" and b" HTTP/1." in incoming.read()


class _Failed:
    """Stands in for TLS where there is none: what comes is thrown away, what is sent goes out as it is."""

    def __init__(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._incoming = incoming
        self.write = outgoing.write

    def read(self, _size: int, buffer: Any = None) -> bytes | int:
        self._incoming.read()
        if self._incoming.eof:
            return b"" if buffer is None else 0
        raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "nothing is read without a handshake")

    def pending(self) -> int:
        return 0

    def getpeercert(self, _binary_form: bool = False) -> None:
        return None

    cipher = compression = version = shutdown = getpeercert


class Certificates:
    """The TLS of one server: `context` is for its listening sockets, and stays the same whatever is loaded anew.

    Raises ConfigError for files that don't work.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._seen = self._look()
        self._loaded = self._seen
        self._timer: asyncio.TimerHandle | None = None
        self.context = FrontContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.current = make_context(config)

    def reload(self) -> None:
        """Load the files anew: connections to come get what is in them, open ones live on.

        Raises ConfigError, and keeps what was loaded before, when they don't work.
        """
        seen = self._look()
        try:
            self.context.current = make_context(self._config)
        except ConfigError:
            raise
        except Exception as error:  # the context factory is the user's
            raise ConfigError(f"ssl_context_factory raised {error!r}") from error
        finally:
            self._seen = self._loaded = seen

    def renew(self) -> None:
        """`reload()` for whoever has nobody to tell of a failure but the log."""
        try:
            self.reload()
        except ConfigError as error:
            logger.error("The old certificate stays in use. %s", error)
        else:
            logger.info("New connections get the certificate that was loaded now")

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """With --ssl-reload: load the files anew whenever they have changed, until `close()`."""
        if self._config.ssl_reload:
            self._timer = loop.call_later(_LOOK, self._on_timer, loop)

    def close(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(_LOOK, self._on_timer, loop)
        before, self._seen = self._seen, self._look()
        if self._seen == before and self._seen != self._loaded:
            self.renew()

    def _look(self) -> list[tuple[int, ...]]:
        """What changes when a file, or what a link leads to, is written or replaced."""
        config = self._config
        return [_state(path) for path in (config.ssl_certfile, config.ssl_keyfile, config.ssl_ca_certs) if path]


def _state(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def tls_timeouts(config: Config) -> dict[str, Any]:
    """Return the event loop's options for TLS connections of a server."""
    timeouts = {"ssl_handshake_timeout": config.ssl_handshake_timeout}
    if sys.version_info >= (3, 11):
        timeouts["ssl_shutdown_timeout"] = _SHUTDOWN
    return timeouts


def make_context(config: Config) -> ssl.SSLContext:
    """Return the context that the configuration describes.

    Raises ConfigError, and whatever `ssl_context_factory` raises.
    """
    if config.ssl_context_factory is None:
        context: ssl.SSLContext = _from_files(config)
    else:
        context = config.ssl_context_factory(config, functools.partial(_from_files, config))
        if not isinstance(context, ssl.SSLContext):
            raise ConfigError(f"ssl_context_factory must return an ssl.SSLContext, not {type(context).__name__}")
    if context.sslobject_class is ssl.SSLObject:
        context.sslobject_class = _Handshake
    return context


def _from_files(config: Config) -> ssl.SSLContext:
    context = _FileContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    context.minimum_version = _OLDEST[config.ssl_version_min]
    if config.ssl_certfile is not None:
        _load_certificate(context, config, config.ssl_certfile)
    if config.ssl_ca_certs is not None:
        _read("--ssl-ca-certs", config.ssl_ca_certs)
        try:
            context.load_verify_locations(config.ssl_ca_certs)
        except OSError:
            raise ConfigError(f"--ssl-ca-certs: {config.ssl_ca_certs!r} has no certificate in PEM form") from None
    context.verify_mode = _CERT_REQS[config.ssl_cert_reqs]
    if config.ssl_ciphers is not None:
        try:
            context.set_ciphers(config.ssl_ciphers)
        except ssl.SSLError:
            raise ConfigError(f"--ssl-ciphers: OpenSSL knows no cipher in {config.ssl_ciphers!r}") from None
    return context


def _load_certificate(context: _FileContext, config: Config, certfile: str) -> None:
    password = config.ssl_keyfile_password
    text = _read("--ssl-certfile", certfile)
    if config.ssl_keyfile is not None:
        _read("--ssl-keyfile", config.ssl_keyfile)
    try:
        # Without a password an encrypted key must be an error, never a prompt.
        context.load_cert_chain(certfile, config.ssl_keyfile, lambda: password or "")
    except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
        raise ConfigError(_why_not(config, error, text)) from None
    if found := _CERTIFICATE.search(text):
        context.server_cert = ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(found[0]))


def _read(flag: str, path: str) -> str:
    try:
        with open(path, encoding="latin-1") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"{flag}: can't read {path!r}: {error.strerror}") from None


def _why_not(config: Config, error: OSError | ValueError, text: str) -> str:
    reason = getattr(error, "reason", None) or ""
    if reason == "KEY_VALUES_MISMATCH":
        return f"--ssl-keyfile: the key does not belong to the certificate in {config.ssl_certfile!r}"
    if "TOO_SMALL" in reason or "TOO_WEAK" in reason:
        return f"--ssl-certfile: OpenSSL finds {config.ssl_certfile!r} too weak ({reason.replace('_', ' ').lower()})"
    key = config.ssl_keyfile or config.ssl_certfile
    assert key is not None
    if _CERTIFICATE.search(text) and "ENCRYPTED" in _read("--ssl-keyfile", key):
        # OpenSSL has many words for it, and some of them are said of other faults too
        if config.ssl_keyfile_password is None:
            return f"--ssl-keyfile-password: the key in {key!r} is encrypted; give its password"
        return f"--ssl-keyfile-password: it does not open the key in {key!r}"
    return f"--ssl-certfile: {config.ssl_certfile!r} and {key!r} don't hold a certificate and its key in PEM form"


# What is known of a connection


def handshake_failure(transport: asyncio.BaseTransport) -> str | None:
    """Return why a connection has no TLS though it should: PLAIN_HTTP, which the client is to be told, or something
    that TLS tells it when the connection is closed."""
    return getattr(transport.get_extra_info("ssl_object"), "failure", None)


def tls_info(transport: asyncio.BaseTransport) -> dict[str, Any] | None:
    """Return the ASGI tls extension (version 0.2) of a connection; None without TLS.

    A client's certificate is in it when it was asked for, shown and found good; one that is not good ends the
    handshake, so that client_cert_error is always None.
    """
    found = transport.get_extra_info("ssl_object")
    if found is None or getattr(found, "failure", None) is not None:
        return None
    own = found.getpeercert(binary_form=True)
    return {
        "server_cert": getattr(found.context, "server_cert", None),
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(each) for each in (own, *_sent_along(found))] if own else [],
        "client_cert_name": subject_of(own) if own else None,
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(found.version() or ""),
        "cipher_suite": _cipher_suite(found),
    }


def _sent_along(found: ssl.SSLObject) -> list[bytes]:
    """What the client sent behind its own certificate, DER; nothing is known of it in a resumed session."""
    if hasattr(found, "get_unverified_chain"):  # from Python 3.13 on
        return list(found.get_unverified_chain()[1:])
    # where it is there, but has no public name yet
    inner: Any = getattr(found, "_sslobj", None)
    chain = inner.get_unverified_chain() if hasattr(inner, "get_unverified_chain") else None
    return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in (chain or ())[1:]]


_SUITES: dict[str, int] = {}
"""Code points in the IANA registry 'TLS Cipher Suites', by OpenSSL's names."""


def _cipher_suite(found: ssl.SSLObject) -> int | None:
    used = found.cipher()
    if used is None:
        return None
    if used[0] not in _SUITES:
        _SUITES.update((each["name"], each["id"] & 0xFFFF) for each in found.context.get_ciphers())
    return _SUITES.get(used[0])
