"""TLS: contexts from the --ssl options, reloading certificates, and the ASGI tls extension."""

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
_MIN_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
_VERSIONS = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_CHECK_INTERVAL = 1.0
"""Seconds between checks of the files for --ssl-reload. A change is loaded if the files have not changed again by the
next check, since certificate and key are seldom written at the same moment."""

_SHUTDOWN_TIMEOUT = 86400.0
"""Seconds for the event loop's TLS shutdown, which includes sending all data that is buffered: it must not cut off what
a slow client is receiving. The connection's own deadlines limit it instead."""

PLAIN_HTTP = "This port speaks TLS; use https:// or wss://"
"""The response to a client that sends plain HTTP."""


class _FileContext(ssl.SSLContext):
    """A context from the --ssl options."""

    server_cert: str | None = None
    """The server's certificate, PEM."""


class _DelegatingContext(ssl.SSLContext):
    """The context of the listening servers, which never changes; each new connection uses the context `current`."""

    current: ssl.SSLContext

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        ssl_object = self.current.wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        if isinstance(ssl_object, _ReportingSSLObject):
            ssl_object.bios = incoming, outgoing
        return ssl_object


class _ReportingSSLObject(ssl.SSLObject):
    """An SSLObject that reports a failed handshake to the client.

    Event loops end a failed handshake silently: OpenSSL's alert is not sent, and a client that uses http instead of
    https gets no response. So a failed handshake is presented as a successful one, of a connection from which nothing
    can be read; the protocol that serves it finds `failure` and closes it.
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
            # The object that SSLObject wraps. Overriding SSLObject's methods instead would slow down each read and
            # write of all other connections.
            self._sslobj = _FailedTLS(incoming, outgoing)
        self.bios = None


def _is_http(error: ssl.SSLError, incoming: ssl.MemoryBIO) -> bool:
    if error.reason in ("HTTP_REQUEST", "HTTPS_PROXY_REQUEST"):
        return True
    # OpenSSL recognises a few methods only, and takes the first bytes of others for a record header
    return error.reason == "WRONG_VERSION_NUMBER" and b" HTTP/1." in incoming.read()


class _FailedTLS:
    """Replaces the TLS object after a failed handshake: incoming data is discarded, outgoing data is sent
    unencrypted."""

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
    """The TLS configuration of one server. `context` is for its listening sockets and stays the same when certificates
    are reloaded.

    Raises ConfigError if the files can't be used.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._file_states = self._read_file_states()
        self._loaded_states = self._file_states
        self._timer: asyncio.TimerHandle | None = None
        self.context = _DelegatingContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.current = make_context(config)

    def reload(self) -> None:
        """Load the files again: new connections use them, open ones are not affected.

        Raises ConfigError, and keeps what was loaded before, if the files can't be used.
        """
        states = self._read_file_states()
        try:
            self.context.current = make_context(self._config)
        except ConfigError:
            raise
        except Exception as error:  # the context factory is the user's
            raise ConfigError(f"ssl_context_factory raised {error!r}") from error
        finally:
            self._file_states = self._loaded_states = states

    def reload_and_log(self) -> None:
        """Like `reload()`, but log the result instead of raising."""
        try:
            self.reload()
        except ConfigError as error:
            logger.error("The old certificate stays in use. %s", error)
        else:
            logger.info("New connections get the certificate that was loaded now")

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """With --ssl-reload, reload the files whenever they have changed, until `close()`."""
        if self._config.ssl_reload:
            self._timer = loop.call_later(_CHECK_INTERVAL, self._on_timer, loop)

    def close(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(_CHECK_INTERVAL, self._on_timer, loop)
        before, self._file_states = self._file_states, self._read_file_states()
        if self._file_states == before and self._file_states != self._loaded_states:
            self.reload_and_log()

    def _read_file_states(self) -> list[tuple[int, ...]]:
        """Return a value that changes when a file, or the target of a link, is written or replaced."""
        config = self._config
        return [_file_state(path) for path in (config.ssl_certfile, config.ssl_keyfile, config.ssl_ca_certs) if path]


def _file_state(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def tls_timeouts(config: Config) -> dict[str, Any]:
    """Return the keyword arguments for TLS connections of create_server() and start_tls()."""
    timeouts = {"ssl_handshake_timeout": config.ssl_handshake_timeout}
    if sys.version_info >= (3, 11):
        timeouts["ssl_shutdown_timeout"] = _SHUTDOWN_TIMEOUT
    return timeouts


def make_context(config: Config) -> ssl.SSLContext:
    """Return the context that the configuration describes.

    Raises ConfigError, and whatever `ssl_context_factory` raises.
    """
    if config.ssl_context_factory is None:
        context: ssl.SSLContext = _context_from_files(config)
    else:
        context = config.ssl_context_factory(config, functools.partial(_context_from_files, config))
        if not isinstance(context, ssl.SSLContext):
            raise ConfigError(f"ssl_context_factory must return an ssl.SSLContext, not {type(context).__name__}")
    if context.sslobject_class is ssl.SSLObject:
        context.sslobject_class = _ReportingSSLObject
    return context


def _context_from_files(config: Config) -> ssl.SSLContext:
    context = _FileContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    context.minimum_version = _MIN_VERSIONS[config.ssl_version_min]
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
        # Without a password an encrypted key must be an error; OpenSSL must never prompt.
        context.load_cert_chain(certfile, config.ssl_keyfile, lambda: password or "")
    except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
        raise ConfigError(_describe_load_error(config, error, text)) from None
    if found := _CERTIFICATE.search(text):
        context.server_cert = ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(found[0]))


def _read(flag: str, path: str) -> str:
    try:
        with open(path, encoding="latin-1") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"{flag}: can't read {path!r}: {error.strerror}") from None


def _describe_load_error(config: Config, error: OSError | ValueError, text: str) -> str:
    reason = getattr(error, "reason", None) or ""
    if reason == "KEY_VALUES_MISMATCH":
        return f"--ssl-keyfile: the key does not belong to the certificate in {config.ssl_certfile!r}"
    if "TOO_SMALL" in reason or "TOO_WEAK" in reason:
        return f"--ssl-certfile: OpenSSL finds {config.ssl_certfile!r} too weak ({reason.replace('_', ' ').lower()})"
    key = config.ssl_keyfile or config.ssl_certfile
    assert key is not None
    if _CERTIFICATE.search(text) and "ENCRYPTED" in _read("--ssl-keyfile", key):
        # OpenSSL has many messages for it, some of which also mean other errors
        if config.ssl_keyfile_password is None:
            return f"--ssl-keyfile-password: the key in {key!r} is encrypted; give its password"
        return f"--ssl-keyfile-password: it does not open the key in {key!r}"
    return f"--ssl-certfile: {config.ssl_certfile!r} and {key!r} don't hold a certificate and its key in PEM form"


# Information about a connection


def handshake_failure(transport: asyncio.BaseTransport) -> str | None:
    """Return why the TLS handshake of a connection failed, None if it did not. PLAIN_HTTP must be sent to the client as
    a response; for anything else the alert is sent when the connection is closed."""
    return getattr(transport.get_extra_info("ssl_object"), "failure", None)


def tls_info(transport: asyncio.BaseTransport) -> dict[str, Any] | None:
    """Return the ASGI TLS extension (version 0.2) of a connection; None without TLS.

    It contains the client's certificate if one was requested, sent and verified. A certificate that fails verification
    fails the handshake, so that client_cert_error is always None.
    """
    ssl_object = transport.get_extra_info("ssl_object")
    if ssl_object is None or getattr(ssl_object, "failure", None) is not None:
        return None
    certificate = ssl_object.getpeercert(binary_form=True)
    return {
        "server_cert": getattr(ssl_object.context, "server_cert", None),
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(each) for each in (certificate, *_intermediates(ssl_object))]
        if certificate
        else [],
        "client_cert_name": subject_of(certificate) if certificate else None,
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(ssl_object.version() or ""),
        "cipher_suite": _cipher_suite(ssl_object),
    }


def _intermediates(ssl_object: ssl.SSLObject) -> list[bytes]:
    """Return the certificates that the client sent after its own, DER; empty in a resumed session."""
    if hasattr(ssl_object, "get_unverified_chain"):  # from Python 3.13 on
        return list(ssl_object.get_unverified_chain()[1:])
    # before 3.13 the method exists on the private object only
    inner: Any = getattr(ssl_object, "_sslobj", None)
    chain = inner.get_unverified_chain() if hasattr(inner, "get_unverified_chain") else None
    return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in (chain or ())[1:]]


_CIPHER_SUITES: dict[str, int] = {}
"""Code points of the IANA registry 'TLS Cipher Suites', by OpenSSL's names."""


def _cipher_suite(ssl_object: ssl.SSLObject) -> int | None:
    used = ssl_object.cipher()
    if used is None:
        return None
    if used[0] not in _CIPHER_SUITES:
        _CIPHER_SUITES.update((each["name"], each["id"] & 0xFFFF) for each in ssl_object.context.get_ciphers())
    return _CIPHER_SUITES.get(used[0])
