"""Every module of flowserve has a test file of its own, in the place and with the name that its own has, or stands here
with those that cover it."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "flowserve"

HTTP = "server/test_http.py server/test_http_bodies.py server/test_http_connections.py"
WEBSOCKET = "server/test_websocket.py server/test_websocket_handshake.py server/test_websocket_backpressure.py"

COVERED_BY = {
    "__init__": "server/test_embedding.py test_layers.py",
    "__main__": "test_cli.py",
    "_build": "test_packaging.py",
    "errors": "test_cli.py client/test_connect.py library/test_websocket.py",
    "gunicorn": "deploy/test_gunicorn.py",
    "version": "test_cli.py test_packaging.py",
    "asgi/application": "asgi/test_application_errors.py server/test_context_variables.py",
    "asgi/completed": "server/test_event_values.py server/test_websocket.py",
    "asgi/context": "asgi/test_lifespan.py server/test_shutdown.py",
    "asgi/http": f"{HTTP} server/test_http_disconnect.py server/test_http_application_errors.py",
    "asgi/websocket": f"{WEBSOCKET} server/test_event_values.py",
    "asgi/websocket_messages": "server/test_event_values.py server/test_websocket_handshake.py",
    "client/arguments": "client/test_connect.py library/test_websockets_arguments.py",
    "client/dial": "client/test_connect.py client/test_proxies.py",
    "client/handshake": "client/test_connect.py client/test_redirects.py",
    "client/http_exchange": "client/test_connect.py",
    "commands/bench/load": "commands/bench/test_command.py",
    "commands/bench/report": "commands/bench/test_command.py",
    "commands/connect/conversation": "commands/connect/test_command.py",
    "commands/connect/lines": "commands/connect/test_command.py",
    "commands/connect/prompt": "commands/connect/test_command.py",
    "config/addresses": "config/test_config.py server/test_listen.py",
    "config/kinds": "config/test_config.py config/test_option_values.py",
    "config/option": "config/test_config.py config/test_option_values.py",
    "config/sealed": "config/test_config.py",
    "hosting/application": "hosting/test_serve.py hosting/test_accept_and_server.py",
    "hosting/arguments": "hosting/test_serve.py",
    "hosting/handshake": "hosting/test_accept.py hosting/test_accept_and_server.py",
    "hosting/policy": "hosting/test_accept.py hosting/test_serve.py",
    "http/foreign_protocols": "http/test_request_parser.py server/test_quiet.py",
    "library/close_errors": "library/test_websocket.py client/test_connect.py",
    "library/context": "client/test_connect.py hosting/test_serve.py",
    "library/data": "library/test_websocket.py library/test_fragments.py",
    "library/messages": "hosting/test_accept.py library/test_properties.py",
    "library/pings": "library/test_websocket.py",
    "logs/handler": "logs/test_pipe.py logs/test_setup.py",
    "logs/loggers": "logs/test_setup.py logs/test_formatters.py",
    "runtime/exit": "server/test_process.py",
    "runtime/sd_notify": "deploy/test_systemd.py",
    "runtime/signals": "asgi/test_application_errors.py server/test_process.py",
    "server/acceptor": "server/test_listen.py server/test_descriptors.py server/test_admission.py",
    "server/h1_connection": f"{HTTP} server/test_http_limits.py server/test_http_smuggling.py",
    "server/h1_response_stream": f"{HTTP} server/test_http_backpressure.py",
    "server/peers": "server/test_listen.py server/test_tls.py asgi/test_scope.py",
    "server/quiesce": "server/test_shutdown.py supervisor/test_rolling_restart.py",
    "server/running": "server/test_embedding.py server/test_shutdown.py server/test_metrics_endpoint.py",
    "server/server": "server/test_embedding.py server/test_shutdown.py",
    "server/snapshot": "server/test_metrics_endpoint.py",
    "server/upgrade": "server/test_websocket_handshake.py",
    "session/host": "session/test_session.py session/test_keepalive.py",
    "session/metered": "server/test_metrics_endpoint.py library/test_broadcast.py",
    "session/monitor": "library/test_properties.py library/test_websocket.py",
    "session/opening": "server/test_permessage_deflate.py",
    "session/writer": "session/test_sender.py session/test_slow_consumer.py",
    "supervisor/__init__": "supervisor/test_main_process.py",
    "supervisor/channel": "supervisor/test_workers.py",
    "supervisor/child": "supervisor/test_workers.py supervisor/test_rolling_restart.py",
    "supervisor/counts": "supervisor/test_metrics_of_workers.py",
    "supervisor/manager": "supervisor/test_workers.py supervisor/test_rolling_restart.py",
    "supervisor/pidfile": "supervisor/test_main_process.py",
    "transport/interfaces": "transport/test_stream.py transport/test_transport_states.py",
    "websocket/constants": "websocket/test_frames.py websocket/test_connection.py",
    "wsgi/environ": "wsgi/test_application.py",
    "wsgi/request_body": "wsgi/test_application.py",
    "wsgi/threads": "wsgi/test_application.py",
}
"""Modules without a test file of their own, and the test files that cover them. Most are tested end to end."""

MODULES = sorted(
    str(path.relative_to(PACKAGE).with_suffix(""))
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py" or len(path.read_text("utf-8").splitlines()) > 10  # others only pass names on
)


def own_test(module: str) -> Path:
    """The test file that mirrors a module."""
    return (TESTS / module).with_name(f"test_{module.rpartition('/')[2]}.py")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_its_tests(module: str) -> None:
    listed = module in COVERED_BY
    assert own_test(module).exists() != listed, "either tests of its own, or a line of the table"


def test_the_table_names_what_is_there() -> None:
    assert set(COVERED_BY) <= set(MODULES)
    for module, files in COVERED_BY.items():
        for file in files.split():
            assert (TESTS / file).exists(), f"{module}: there is no {file}"
