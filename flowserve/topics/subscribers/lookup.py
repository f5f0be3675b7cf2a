"""Finds the subscriber for whatever stands for a WebSocket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowserve.errors import ClientDisconnected
from flowserve.session.session import Session
from flowserve.topics.delivery.members import Subscriber
from flowserve.topics.hub.hub import Hub
from flowserve.topics.message import Envelope
from flowserve.topics.subscribers.asgi import NOT_ACCEPTED, asgi_subscriber_of
from flowserve.topics.subscribers.session import Policy, session_subscriber_of

EXTENSION = "flowserve.topics"
"""The key in the extensions of a WebSocket's scope."""


def owner_of(websocket: Any) -> object:
    """Return what `Subscriber.owner` is for a WebSocket. Raises RuntimeError before it is accepted, TypeError for what
    is none."""
    session = _session_of(websocket)
    return websocket if session is None else session


def subscriber_of(websocket: Any, hub: Hub, envelope: Envelope | None, policy: Policy | None) -> Subscriber:
    """Return the subscriber for a WebSocket, which is made if there is none with this envelope and policy.

    Raises ClientDisconnected if the WebSocket has ended, RuntimeError before it is accepted, TypeError for what is
    none.
    """
    session = _session_of(websocket)
    if session is None:
        return asgi_subscriber_of(websocket, hub, envelope, policy)
    if session.lost:
        raise ClientDisconnected("the WebSocket is closed")
    return session_subscriber_of(session, hub, envelope, policy)


def _session_of(websocket: Any) -> Session | None:
    """Return the session of a WebSocket of flowserve's, None for one of another server."""
    scope = getattr(websocket, "scope", websocket)
    if not isinstance(scope, Mapping):  # else `session` is something of a framework's, which may raise
        session = getattr(websocket, "session", None)
        if isinstance(session, Session):
            return session
    if not isinstance(scope, Mapping) or scope.get("type") != "websocket":
        raise TypeError(f"a WebSocket or its ASGI scope is wanted, not {type(websocket).__name__}")
    connection = (scope.get("extensions") or {}).get(EXTENSION)
    if connection is None:
        return None
    session = connection.session
    if session is None:
        raise RuntimeError(NOT_ACCEPTED)
    return session if isinstance(session, Session) else None
