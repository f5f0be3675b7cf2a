"""Warnings about what a configuration exposes to other machines, other users of this one, and pages of other sites."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping

from flowserve.config.addresses import Bind
from flowserve.config.config import Config
from flowserve.config.file import Given

_OTHERS_MAY_WRITE = 0o002
"""The permission bit of a UNIX domain socket that lets all users connect."""


def exposure_warnings(config: Config, given: Mapping[str, Given]) -> list[str]:
    """Return the warnings, one line each; most begin with the option to change. `given` has the options that were set,
    by name."""
    public_binds = [bind for bind in _binds(config) if _is_public(bind)]
    lines = [*_warn_of_local_users(config, given)]
    if public_binds:
        lines += [*_warn_of_clients(config, str(public_binds[0])), *_warn_of_missing_limits(config)]
    return lines


def _binds(config: Config) -> list[Bind]:
    if config.bind:
        return list(config.bind)
    if config.uds is not None:
        return [Bind(path=config.uds)]
    return [Bind(host=config.host, port=config.port)] if config.fd is None else []


def _is_public(bind: Bind) -> bool:
    """Whether other machines may reach the address, which is assumed of every host name but localhost."""
    if bind.host is None or bind.host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(bind.host.partition("%")[0]).is_loopback
    except ValueError:
        return True


def _warn_of_local_users(config: Config, given: Mapping[str, Given]) -> Iterator[str]:
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        yield "it runs as root: whoever breaks into the application owns the machine; take another user"
    for bind in _binds(config):
        if bind.path is not None and bind.mode & _OTHERS_MAY_WRITE:
            option = "--bind" if config.bind else "--uds"
            yield f"{option}: every user of this machine may connect to {bind}; write --bind unix:{bind.path},mode=660"
    if config.metrics is not None and config.metrics.path is not None and config.metrics.mode & _OTHERS_MAY_WRITE:
        yield f"--metrics: every user of this machine can read them; write unix:{config.metrics.path},mode=660"
    if config.metrics is not None and _is_public(config.metrics):
        yield f"--metrics: whoever reaches {config.metrics} can read them; write e.g. --metrics 127.0.0.1:9000"
    if config.log_query == "full":
        yield "--log-query: tokens in queries are written to the log; leave it at redact"
    password = given.get("ssl_keyfile_password")
    if password is not None and password.origin == "command line":
        yield "--ssl-keyfile-password: other users see the command line; take FLOWSERVE_SSL_KEYFILE_PASSWORD"


def _warn_of_clients(config: Config, address: str) -> Iterator[str]:
    """Yield warnings about what a single client can do; `address` is a public one that it listens on."""
    trusts_all = "*" in config.forwarded_allow_ips and (config.proxy_headers or config.proxy_protocol)
    behind_proxy = any(_is_remote_proxy(each) for each in config.forwarded_allow_ips)
    if not config.ssl and not behind_proxy:
        yield f"--ssl-certfile: there is no TLS on {address}; without a proxy that has it all is sent in plain text"
    if trusts_all:
        yield "--forwarded-allow-ips: with * each client may claim any address and scheme; name the proxies"
    if not config.ws_allowed_origins:
        yield "--ws-allowed-origins: pages of all sites may open WebSockets, with their visitors' cookies; name yours"
    if not config.allowed_hosts:
        yield "--allowed-hosts: any Host is taken; name those that are served"
    if config.reload:
        yield "--reload: it is for development"


def _warn_of_missing_limits(config: Config) -> Iterator[str]:
    """Yield warnings about missing limits for many or slow clients."""
    if config.limit_concurrency is None:
        yield "--limit-concurrency: there is no limit of requests and WebSockets at a time"
    if config.limit_connections_per_address is None and "*" not in config.forwarded_allow_ips:
        yield "--limit-connections-per-address: one client may take all connections"
    for name in ("timeout_body", "timeout_response"):
        if getattr(config, name) is None:
            yield f"--{name.replace('_', '-')}: a client that stands still is kept for ever"
    if config.ws_idle_timeout is None and None in (config.ws_ping_interval, config.ws_ping_timeout):
        yield "--ws-ping-interval: without pings clients that have vanished are kept for ever"


def _is_remote_proxy(proxy: str) -> bool:
    """Whether an entry of --forwarded-allow-ips names a proxy on another machine; * names none."""
    return proxy not in ("*", "unix", "127.0.0.1", "::1")
