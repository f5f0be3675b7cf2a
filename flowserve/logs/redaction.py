"""What a log may show of a request target or a URI: secrets often stand in the query, as a browser's WebSocket and
EventSource can't set header fields. A leaf.

The value of a parameter whose name looks like a secret's is replaced by REDACTED, as OpenTelemetry's conventions for
`url.query` have it. Rather one value too many: only the log loses it.
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
        # OAuth 2.0 (RFC 6749, RFC 7521, RFC 8628), OpenID Connect, SAML and CAS: what can be exchanged for a login
        "assertion", "authcode", "authorizationcode", "clientassertion", "code", "devicecode", "samlrequest",
        "samlresponse", "ticket", "usercode",
        # sessions, Engine.IO's among them
        "sess", "session", "sid",
        # signed links: Azure's sig, and whatever calls itself so
        "hmac", "sig",
    )
)  # fmt: skip
"""Names of secrets as a whole; in lower case and letters alone."""

SECRET_ENDINGS = (
    "key",  # api_key, subscription-key, session_key
    "keyid",  # AWSAccessKeyId, private_key_id
    "sessionid",
    "sessid",  # PHPSESSID
)
"""Names of secrets end with one of these."""

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
"""Names of secrets have one of these in them."""

_JWT = "eyJ"  # '{"' in base64: a JSON Web Token is a secret under any name, or without one
_MOST_PARAMETERS = 256  # more are not looked at one by one, which would take the time of others
_LONGEST_NAME = 192  # characters, of the end
_NO_LETTERS = re.compile("[^a-z]+")
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)?.*@", re.DOTALL)
"""User and password, however malformed the rest is: all up to the last @, but for the scheme."""


def shown_target(target: str, wanted: LogQuery = "redact") -> str:
    """The target of a request, or a URI, as a log may show it."""
    path, mark, query = target.partition("?")
    if not mark or wanted == "full":
        return target
    return path if wanted == "omit" else f"{path}?{redact_query(query)}"


def shown_uri(uri: str) -> str:
    """What was meant to be a URI, for an error about it: without what may be user and password, and the secrets of
    its query."""
    return shown_target(_USER.sub(lambda found: found[1] or "", uri))


def redact_query(query: str) -> str:
    """Replace the values of a query that look like secrets."""
    if query.count("&") + query.count(";") >= _MOST_PARAMETERS:
        return REDACTED
    return "&".join([_redact_parameter(each) for each in query.split("&")])


def _redact_parameter(parameter: str) -> str:
    """Replace a secret value up to the next '&': a ';' may separate parameters too, or belong to the value."""
    begin = 0
    for part in parameter.split(";"):
        name, equals, value = part.partition("=")
        at = begin + len(name) + 1 if equals else begin
        begin += len(part) + 1
        if (value or not equals) and parameter.startswith(_JWT, at):
            return parameter[:at] + REDACTED
        if equals and at < len(parameter) and _is_secret(name[-_LONGEST_NAME:]):
            return parameter[:at] + REDACTED
    return parameter


@lru_cache(1024)
def _is_secret(name: str) -> bool:
    letters = _NO_LETTERS.sub("", unquote(name, "latin-1").lower())
    if letters in SECRET_NAMES or letters.endswith(SECRET_ENDINGS):
        return True
    return any(part in letters for part in SECRET_PARTS)
