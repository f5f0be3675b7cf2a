"""Servers, and Redis or NATS for the commands that talk to them."""

from __future__ import annotations

from support.topic_fixtures import nats, open_room, redis

__all__ = ["nats", "open_room", "redis"]
