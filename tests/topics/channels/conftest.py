"""Layers as processes have them that no server runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from support.helpers import within

from flowserve.topics import ChannelLayer


@pytest.fixture
async def make_layer() -> AsyncIterator[Callable[..., ChannelLayer]]:
    """`layer = make_layer(redis.url, capacity=3)`: each has a connection of its own, as one of another process has."""
    made: list[ChannelLayer] = []

    def make(*arguments: Any, **options: Any) -> ChannelLayer:
        made.append(ChannelLayer(*arguments, **options))
        return made[-1]

    yield make
    for layer in made:
        await within(layer.close())


@pytest.fixture
def layer(make_layer: Callable[..., ChannelLayer]) -> ChannelLayer:
    return make_layer()
