"""The subject of a client's certificate (DER) as RFC 4514 writes it.

- Nothing is raised; what can't be read is None.
- The text has no control characters: it goes to headers, environments and logs.
"""

from __future__ import annotations

from typing import Any

from compliance.fuzz.findings import require
from flowserve.server.distinguished_name import subject_of

MAX_LEN = 2000


def observe(data: bytes) -> Any:
    seen = subject_of(data)
    if seen is not None:
        require(not any(ord(each) < 32 or ord(each) == 127 for each in seen), "a subject has control characters", seen)
    return seen
