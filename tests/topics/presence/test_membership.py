"""What an application says of a member can be shown to the others."""

from __future__ import annotations

from typing import Any

import pytest

from flowserve.errors import TopicsError
from flowserve.topics.payload import json_of
from flowserve.topics.presence.membership import membership_of


@pytest.mark.parametrize("info", ["\\ud800", "\ud83d\ude00", "\x1f", "é", {"\\": None}])
def test_what_can_be_written(info: Any) -> None:
    assert membership_of("ada", json_of(info)).info == json_of(info)


@pytest.mark.parametrize("info", ["\ud800", "\x1f\udfff", ["\ude00\ud83d"], {"\ud800": 1}])
def test_what_can_not_be_written(info: Any) -> None:
    with pytest.raises(TopicsError, match=r"the info of a member can't be written in UTF-8: .*ud"):
        membership_of("ada", json_of(info))
