"""Options that exclude or need each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowserve.config.option import Option
from flowserve.errors import ConfigError

_TLS_ONLY = (
    "ssl_keyfile",
    "ssl_keyfile_password",
    "ssl_ca_certs",
    "ssl_cert_reqs",
    "ssl_ciphers",
    "ssl_version_min",
    "ssl_handshake_timeout",
    "ssl_reload",
)


def check_combinations(config: Any, options: Mapping[str, Option]) -> None:
    """Raise ConfigError if options of `config`, a Config, exclude each other or need another one. `options` declares
    them; the message names them by their flags."""
    if sum((config.uds is not None, config.fd is not None, bool(config.bind))) > 1:
        raise ConfigError("--uds, --fd and --bind exclude each other; give one of them (--bind may be repeated)")
    if (config.workers > 1 or config.reload) and not isinstance(config.app, str):
        raise ConfigError("workers and reload load the application anew: name it as 'module:attribute'")
    if config.proxy_protocol and not config.forwarded_allow_ips:
        raise ConfigError("--proxy-protocol: no proxy is trusted; name yours in --forwarded-allow-ips")
    trusts_all = config.proxy_headers and not config.proxy_protocol and "*" in config.forwarded_allow_ips
    if config.limit_connections_per_address is not None and trusts_all:
        raise ConfigError(
            "--limit-connections-per-address: with --forwarded-allow-ips '*' every client counts as a proxy, and those"
            " are not limited; name the proxies"
        )
    if config.log_config != "" and (config.log_format != "human" or config.access_log_format is not None):
        which = "--log-format" if config.log_format != "human" else "--access-log-format"
        raise ConfigError(f"--log-config and {which} exclude each other; say the format in the file")
    if config.interface != "wsgi" and config.wsgi_threads != options["wsgi_threads"].default:
        raise ConfigError("--wsgi-threads: only WSGI applications have threads; add --interface wsgi, or leave it out")
    for name in _TLS_ONLY:
        # refuse to serve plain text where TLS was intended
        if not config.ssl and getattr(config, name) != options[name].default:
            raise ConfigError(f"{options[name].flag}: TLS needs a certificate too; give --ssl-certfile")
    if config.ssl_cert_reqs != "none" and config.ssl_ca_certs is None:
        raise ConfigError("--ssl-cert-reqs: clients' certificates can't be checked without --ssl-ca-certs")
