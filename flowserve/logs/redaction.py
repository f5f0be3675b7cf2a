"""Redaction of request targets and URIs for logs. Secrets are often passed in the query, because WebSocket and
EventSource in a browser cannot set header fields.

The value of a parameter whose name looks like that of a secret is replaced by REDACTED, as OpenTelemetry's conventions
for `url.query` say. It redacts too much rather than too little, since only the log is affected.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal
from urllib.parse import unquote

LogQuery = Literal["redact", "full", "omit"]
"""The values of --log-query."""

REDACTED = "REDACTED"

SECRET_NAMES = frozenset(
    (
        # credentials
        "auth", "authorization", "bearer", "jwt", "otp", "pass", "pin", "pw", "pwd",
        # OAuth 2.0 (RFC 6749, RFC 7521, RFC 8628), OpenID Connect, SAML and CAS: can be exchanged for a login
        "assertion", "authcode", "authorizationcode", "clientassertion", "code", "devicecode", "samlrequest",
        "samlresponse", "ticket", "usercode",
        # sessions, also of Engine.IO
        "sess", "session", "sid",
        # signed links, such as Azure's
        "hmac", "sig",
    )
)  # fmt: skip
"""Whole names of secrets, in lower case and reduced to letters."""

SECRET_ENDINGS = (
    "key",  # api_key, subscription-key, session_key
    "keyid",  # AWSAccessKeyId, private_key_id
    "sessionid",
    "sessid",  # PHPSESSID
)
"""A name that ends with one of these is that of a secret."""

SECRET_PARTS = (
    "token",  # access_token, id_token, X-Amz-Security-Token, tokens, bearer_token_v2
    "secret",  # client_secret
    "passw",  # password, passwd
    "passphrase",
    "passcode",
    "signature",  # X-Amz-Signature, X-Goog-Signature
    "credential",  # X-Amz-Credential
    "codeverifier",  # RFC 7636
)
"""A name that contains one of these is that of a secret."""

_JWT = "eyJ"  # '{"' in base64: a JSON Web Token is a secret under any name, or without one
_MAX_PARAMETERS = 256  # a query with as many is redacted as a whole, as checking each would take too long
_MAX_NAME = 192  # characters; only the last ones of a longer name are checked
_NON_LETTERS = re.compile("[^a-z]+")
_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)?.*@", re.DOTALL)
"""User and password, also in a malformed URI: everything up to the last @, except the scheme."""
_AUTHORITY_USER = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]*://|//)[^/?#]*@")
"""User and password in the authority, not an @ in the path, as of https://example.com/@user."""


def redact_target(target: str, log_query: LogQuery = "redact") -> str:
    """Return a request target or URI for a log: with its query as `log_query`, the option --log-query, says."""
    path, mark, query = target.partition("?")
    if not mark or log_query == "full":
        return target
    return path if log_query == "omit" else f"{path}?{redact_query(query)}"


def redact_uri(uri: str) -> str:
    """Return a possibly malformed URI for an error message: without user and password, and with the secrets in its
    query redacted."""
    return redact_target(_USERINFO.sub(lambda match: match[1] or "", uri))


def redact_referer(uri: str, log_query: LogQuery = "redact") -> str:
    """Return a Referer (RFC 9110 section 10.1.3) for a log: as `redact_target()`, and without user, password and
    fragment, which clients must not send, unless all is to be shown."""
    if log_query == "full":
        return uri
    return redact_target(_AUTHORITY_USER.sub(r"\1", uri.partition("#")[0]), log_query)


def redact_query(query: str) -> str:
    """Return a query with the values that look like secrets replaced by REDACTED."""
    if query.count("&") + query.count(";") >= _MAX_PARAMETERS:
        return REDACTED
    return "&".join([_redact_parameter(each) for each in query.split("&")])


def _redact_parameter(parameter: str) -> str:
    """Return the parameters between two '&' with a secret value, and all behind it, replaced: a ';' may separate
    parameters or be part of a value."""
    part_start = 0
    for part in parameter.split(";"):
        name, equals, value = part.partition("=")
        value_start = part_start + len(name) + 1 if equals else part_start
        part_start += len(part) + 1
        if (value or not equals) and parameter.startswith(_JWT, value_start):
            return parameter[:value_start] + REDACTED
        if equals and value_start < len(parameter) and _is_secret(name[-_MAX_NAME:]):
            return parameter[:value_start] + REDACTED
    return parameter


@lru_cache(1024)
def _is_secret(name: str) -> bool:
    letters = _NON_LETTERS.sub("", unquote(name, "latin-1").lower())
    if letters in SECRET_NAMES or letters.endswith(SECRET_ENDINGS):
        return True
    return any(part in letters for part in SECRET_PARTS)
