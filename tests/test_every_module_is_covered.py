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
    "__main__": "cli/test_command.py",
    "_build": "test_packaging.py",
    "_man": "test_manual.py",
    "errors": "cli/test_command.py client/test_connect.py library/test_websocket.py",
    "gunicorn": "deploy/test_gunicorn.py",
    "version": "cli/test_command.py test_packaging.py",
    "asgi/application": "asgi/test_application_errors.py server/test_context_variables.py",
    "asgi/completed": "server/test_event_values.py server/test_websocket.py",
    "asgi/context": "asgi/test_lifespan.py server/test_shutdown.py",
    "asgi/http": f"{HTTP} server/test_http_disconnect.py server/test_http_application_errors.py",
    "asgi/websocket": f"{WEBSOCKET} server/test_event_values.py",
    "asgi/websocket_messages": "server/test_event_values.py server/test_websocket_handshake.py",
    "cli/failures": "cli/test_command.py",
    "cli/own_options": "cli/test_command.py cli/test_help.py cli/test_install_completion.py",
    "cli/subcommands": "cli/test_help.py test_documents.py",
    "client/arguments": "client/test_connect.py library/test_websockets_arguments.py",
    "client/dial": "client/test_connect.py client/test_proxies.py",
    "client/handshake": "client/test_connect.py client/test_redirects.py",
    "client/http_exchange": "client/test_connect.py",
    "commands/bench/deliveries": "commands/bench/test_fan_out.py",
    "commands/bench/fan_out_report": "commands/bench/test_fan_out.py",
    "commands/bench/load": "commands/bench/test_command.py",
    "commands/bench/publishers": "commands/bench/test_fan_out.py",
    "commands/bench/report": "commands/bench/test_command.py",
    "commands/completions": "cli/test_completion.py",
    "commands/connect/conversation": "commands/connect/test_command.py",
    "commands/connect/lines": "commands/connect/test_command.py",
    "commands/connect/prompt": "commands/connect/test_command.py",
    "commands/figures": "commands/test_top.py",
    "config/addresses": "config/test_config.py server/test_listen.py",
    "config/close_kinds": "config/test_config.py",
    "config/combinations": "config/test_config.py",
    "config/kinds": "config/test_config.py config/test_option_values.py",
    "config/option": "config/test_config.py config/test_option_values.py",
    "config/sealed": "config/test_config.py",
    "config/tls": "config/test_config.py config/test_option_values.py",
    "config/topics": "topics/hub/test_open.py config/test_option_values.py",
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
    "library/keywords": "test_types.py",
    "logs/handler": "logs/test_pipe.py logs/test_setup.py",
    "logs/loggers": "logs/test_setup.py logs/test_formatters.py",
    "runtime/process_thread": "sync/test_loop_thread.py topics/channels/test_layer.py",
    "runtime/exit": "server/test_process.py",
    "runtime/sd_notify": "deploy/test_systemd.py",
    "runtime/signals": "asgi/test_application_errors.py server/test_process.py",
    "server/acceptor": "server/test_listen.py server/test_descriptors.py server/test_admission.py",
    "server/h1_connection": f"{HTTP} server/test_http_limits.py server/test_http_smuggling.py",
    "server/h1_response_stream": f"{HTTP} server/test_http_backpressure.py",
    "server/lasting": "supervisor/test_topics_of_workers.py",
    "server/peers": "server/test_listen.py server/test_tls.py asgi/test_scope.py",
    "server/quiesce": "server/test_shutdown.py supervisor/test_rolling_restart.py",
    "server/running": "server/test_embedding.py server/test_shutdown.py server/test_metrics_endpoint.py",
    "server/server": "server/test_embedding.py server/test_shutdown.py",
    "server/snapshot": "server/test_metrics_endpoint.py",
    "server/upgrade": "server/test_websocket_handshake.py",
    "session/fan_out": "topics/subscribers/test_session.py",
    "session/host": "session/test_session.py session/test_keepalive.py",
    "session/metered": "server/test_metrics_endpoint.py library/test_broadcast.py",
    "session/monitor": "library/test_properties.py library/test_websocket.py",
    "session/opening": "server/test_permessage_deflate.py",
    "session/shared_message": "topics/subscribers/test_session.py library/test_broadcast.py",
    "session/writer": "session/test_sender.py session/test_slow_consumer.py",
    "supervisor/__init__": "supervisor/test_main_process.py",
    "supervisor/channel": "supervisor/test_workers.py",
    "supervisor/child": "supervisor/test_workers.py supervisor/test_rolling_restart.py",
    "supervisor/counts": "supervisor/test_metrics_of_workers.py",
    "supervisor/manager": "supervisor/test_workers.py supervisor/test_rolling_restart.py",
    "supervisor/pidfile": "supervisor/test_main_process.py",
    "topics/remote/backplane": "topics/redis/test_backplane.py topics/nats/test_backplane.py",
    "topics/remote/errors": "topics/redis/test_connect.py topics/nats/test_connect.py",
    "topics/remote/inspection": "commands/test_topics.py",
    "topics/nats/inspection": "commands/test_topics.py",
    "topics/redis/cluster_inspection": "commands/test_topics.py",
    "topics/redis/inspection": "commands/test_topics.py",
    "topics/__init__": "topics/test_public_names.py topics/api/test_functions.py",
    "topics/serving/access": "topics/serving/test_serve.py",
    "topics/backplane": "topics/test_every_backplane.py topics/hub/test_hub.py",
    "topics/delivery/backlog": "topics/hub/test_hub.py topics/subscribers/test_session.py",
    "topics/local/broker": "topics/local/test_siblings.py supervisor/test_topics_of_workers.py",
    "topics/channels/background": "topics/channels/test_layer.py supervisor/test_channels_of_workers.py",
    "topics/channels/channel": "topics/channels/test_layer.py",
    "topics/channels/losses": "topics/channels/test_layer.py",
    "topics/channels/router": "topics/channels/test_layer.py supervisor/test_channels_of_workers.py",
    "topics/hub/current": "topics/api/test_functions.py topics/subscribers/test_asgi.py",
    "topics/client/subscription": "topics/client/test_client.py",
    "topics/serving/duplex": "topics/serving/test_serve.py",
    "topics/envelopes": "topics/subscribers/test_session.py",
    "topics/api/listener": "topics/api/test_event_source.py topics/api/test_functions.py",
    "topics/serving/grants": "topics/serving/test_serve.py",
    "topics/delivery/members": "topics/hub/test_hub.py topics/subscribers/test_session.py",
    "topics/local/memory": "topics/hub/test_hub.py topics/subscribers/test_session.py",
    "topics/message": "topics/subscribers/test_session.py topics/api/test_functions.py",
    "topics/nats/attempt": "topics/nats/test_backplane.py topics/nats/test_faults.py",
    "topics/nats/batch": "topics/nats/test_backplane.py topics/nats/test_faults.py",
    "topics/nats/history": "topics/nats/test_backplane.py topics/test_every_backplane.py",
    "topics/nats/link": "topics/nats/test_connect.py topics/nats/test_faults.py",
    "topics/nats/log": "topics/nats/test_backplane.py topics/nats/test_faults.py",
    "topics/nats/subscriptions": "topics/nats/test_backplane.py topics/nats/test_faults.py",
    "topics/payload": "topics/api/test_functions.py topics/serving/test_serve.py",
    "topics/serving/protocol": "topics/serving/test_serve.py",
    "topics/presence/changes": "topics/presence/test_tracker.py",
    "topics/presence/entries": "topics/presence/test_tracker.py topics/presence/test_exchange.py",
    "topics/presence/limits": "topics/presence/test_exchange.py",
    "topics/names": "topics/presence/test_exchange.py",
    "topics/presence/outgoing": "topics/presence/test_exchange.py topics/presence/test_peers.py",
    "topics/presence/roster": "topics/presence/test_tracker.py topics/presence/test_peers.py",
    "topics/delivery/queue": "topics/hub/test_hub.py topics/api/test_functions.py",
    "topics/serving/rate_limit": "topics/serving/test_serve.py",
    "topics/delivery/reads": "topics/hub/test_hub.py topics/subscribers/test_session.py",
    "topics/redis/link": "topics/redis/test_backplane.py topics/redis/test_faults.py",
    "topics/redis/node": "topics/redis/test_cluster.py",
    "topics/redis/partition": "topics/redis/test_cluster.py",
    "topics/redis/reading": "topics/redis/test_backplane.py topics/redis/test_scripts.py",
    "topics/redis/subscriptions": "topics/redis/test_backplane.py topics/redis/test_faults.py",
    "topics/settings": "topics/hub/test_open.py",
    "topics/subscribers/lookup": "topics/subscribers/test_asgi.py topics/subscribers/test_session.py",
    "topics/redis/watch": "topics/redis/test_faults.py topics/redis/test_sentinel.py",
    "topics/remote/url": "topics/redis/test_url.py topics/nats/test_url.py",
    "topics/remote/reconnector": "topics/redis/test_faults.py topics/nats/test_faults.py topics/nats/test_connect.py",
    "topics/delivery/topic": "topics/hub/test_hub.py topics/subscribers/test_session.py",
    "transport/bases": "session/test_session.py session/test_sender.py transport/test_stream.py",
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
