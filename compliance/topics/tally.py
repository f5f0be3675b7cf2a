"""What the subscribers and publishers of one scenario share."""

from __future__ import annotations

from collections import Counter

from compliance.topics.checker import Checker, Entry


class Tally:
    """The checker, and what is counted beside it."""

    def __init__(self, checker: Checker, topics: list[str]) -> None:
        self.checker = checker
        self.known: dict[bytes, Entry] = {}  # by the frame's payload
        self.ends: dict[str, str] = dict.fromkeys(topics, "")  # the position of each topic's last message
        self.closes: Counter[int] = Counter()  # by the code that the server sent
        self.errors: Counter[str] = Counter()  # of publishers, by type
        self.stopping = False  # publishers are to stop
