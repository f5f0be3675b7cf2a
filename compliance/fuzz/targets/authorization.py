"""An Authorization field, as `basic_auth()` reads it.

- Nothing is raised. Whoever is let in gave user and password, in UTF-8 and base64.
"""

from __future__ import annotations

import base64
from typing import Any

from compliance.fuzz.findings import require
from flowserve.hosting.basic_auth import _parse_authorization
from flowserve.http.headers import Headers

MAX_LEN = 300


def observe(data: bytes) -> Any:
    headers = Headers([(b"authorization", value) for value in data.split(b"\n")] if data else [])
    given = _parse_authorization(headers.get_all("Authorization"))
    if given is not None:
        user, password = given
        require(":" not in user, "a user has a colon in it")
        again = "basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        require(_parse_authorization([again]) == given, "user and password that are encoded again are others")
    return given
