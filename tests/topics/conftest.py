"""Servers for tests of topics, and Redis or NATS for those that use it."""

from __future__ import annotations

from support.topic_fixtures import machine, nats, open_room, redis, room

__all__ = ["machine", "nats", "open_room", "redis", "room"]
