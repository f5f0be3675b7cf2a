"""The client that subscribes by itself. A room of its own above the client and topics, which do not know it."""

from __future__ import annotations

from flowserve.topics.client.client import Client, connect
from flowserve.topics.client.subscription import Gap, Member, Message, Subscription

__all__ = ["Client", "Gap", "Member", "Message", "Subscription", "connect"]
