"""Servers and Redis for the tests of topics."""

from __future__ import annotations

from support.topic_fixtures import machine, open_room, redis, room

__all__ = ["machine", "open_room", "redis", "room"]
