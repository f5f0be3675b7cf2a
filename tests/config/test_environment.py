"""Variables that look as if they were for the server: which are named, and what with."""

from __future__ import annotations

import pytest

from flowserve.config.environment import environment_warnings


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("FLOWSERVE_WORKRES", "; did you mean FLOWSERVE_WORKERS?"),
        ("FLOWSERVE_PURES", "; did you mean FLOWSERVE_PURE?"),
        ("FLOWSERVE_ZZZZZZZZ", "; flowserve --help has all options"),
        ("FLOWSERVE_RELOAD_DIRS", "; write FLOWSERVE_RELOAD_DIR"),
        ("FLOWSERVE_HTTP", ": flowserve has one HTTP implementation; leave it out"),
        ("UVICORN_APP", "; write FLOWSERVE_APP"),
        ("UVICORN_HEADERS", "; write FLOWSERVE_HEADER"),
        ("UVICORN_WS_MAX_SIZE", "; write FLOWSERVE_WS_MAX_SIZE"),
        ("UVICORN_HTTP", ": flowserve has one HTTP implementation; leave it out"),
        ("UVICORN_H11_MAX_INCOMPLETE_EVENT_SIZE", "; write FLOWSERVE_H1_MAX_HEADER_SIZE"),
    ],
)
def test_what_is_named(variable, says):
    assert list(environment_warnings({variable: "1"}, ())) == [f"{variable} is not read{says}"]


@pytest.mark.parametrize(
    "variable",
    [
        *("FLOWSERVE_PORT", "FLOWSERVE_APP", "FLOWSERVE_CONFIG", "FLOWSERVE_PURE", "FLOWSERVE_ZLIB"),
        *("FLOWSERVE_NO_EXTENSIONS", "FLOWSERVE_TEST_LOOP", "FLOWSERVE_ENV_FILE", "FLOW", "PORT"),
        *("UVICORN_OF_MINE", "UVICORN_"),  # uvicorn doesn't read it either
        # a service called flowserve, in Kubernetes
        *(
            "FLOWSERVE_SERVICE_HOST",
            "FLOWSERVE_SERVICE_PORT_HTTP",
            "FLOWSERVE_PORT_80_TCP",
            "FLOWSERVE_PORT_80_TCP_ADDR",
        ),
    ],
)
def test_what_is_not_named(variable):
    assert list(environment_warnings({variable: "1"}, ())) == []


def test_what_has_been_moved_already_is_not_named():
    assert list(environment_warnings({"UVICORN_PORT": "1", "UVICORN_APP": "a:b"}, {"port", "app"})) == []
    assert list(environment_warnings({"UVICORN_PORT": ""}, ())) == []
