"""Who may do what with a topic: the parameter `allow` of serve()."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Literal

Action = Literal["subscribe", "publish"]
Allow = Callable[[str, Action], "bool | Awaitable[bool]"] | Mapping[str, "str | Collection[str]"] | Collection[str]

_ACTIONS = frozenset(("subscribe", "publish"))


def check_actions(actions: str | Collection[str]) -> frozenset[str]:
    """Return actions as a set. Raises ValueError for others than there are."""
    found = frozenset((actions,) if isinstance(actions, str) else actions)
    if not found <= _ACTIONS:
        raise ValueError(f"actions are 'subscribe' and 'publish', not {sorted(found - _ACTIONS)}")
    return found


class Access:
    """What an application allows. Topics that a mapping or collection does not name are denied, and so is publishing
    to those of a collection."""

    def __init__(self, allow: Allow | None) -> None:
        """`allow` as for serve(); None denies all. Raises TypeError or ValueError for what it can't be."""
        self._ask: Any = None
        self._named: dict[str, frozenset[str]] = {}
        if callable(allow):
            self._ask = allow
        elif isinstance(allow, Mapping):
            self._named = {topic: check_actions(actions) for topic, actions in allow.items()}
        elif isinstance(allow, Collection) and not isinstance(allow, (str, bytes)):
            self._named = dict.fromkeys(allow, frozenset(("subscribe",)))
        elif allow is not None:
            raise TypeError(f"allow is a function, a mapping or a collection of topics, not {type(allow).__name__}")

    async def allows(self, topic: str, action: Action) -> bool:
        """Whether a client may do this. Raises what the application raises."""
        if self._ask is None:
            return action in self._named.get(topic, ())
        answer = self._ask(topic, action)
        return bool(await answer if inspect.isawaitable(answer) else answer)
