"""Every option: how values are read, what is refused, and what the refusal says."""

from __future__ import annotations

import dataclasses
import pathlib
import ssl
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowserve.config import OPTIONS, Config, duration, size
from flowserve.errors import ConfigError

DEFAULTS = {
    "host": "127.0.0.1",
    "port": 8000,
    "uds": None,
    "fd": None,
    "backlog": 2048,
    "app_dir": "",
    "factory": False,
    "root_path": "",
    "lifespan": "auto",
    "loop": "auto",
    "interface": "auto",
    "log_level": "info",
    "access_log": True,
    "use_colors": None,
    "headers": (),
    "server_header": True,
    "date_header": True,
    "limit_concurrency": None,
    "timeout_keep_alive": 5.0,
    "timeout_graceful_shutdown": 30.0,
    "ws_max_size": 16777216,
    "ws_max_queue": 32,
    "ws_ping_interval": 20.0,
    "ws_ping_timeout": 20.0,
    "ssl_keyfile": None,
    "ssl_certfile": None,
    "ssl_keyfile_password": None,
    "ssl_ca_certs": None,
    "ssl_cert_reqs": "none",
    "ssl_ciphers": None,
    "h1_max_header_size": 65536,
    "h1_max_header_count": 128,
    "timeout_header": 30.0,
    "timeout_handshake": 30.0,
    "ws_max_frames_per_message": 131072,
    "ws_close_timeout": 10.0,
    "ws_per_message_deflate": True,
    "ws_deflate_context": "shared",
    "ws_deflate_level": 6,
    "ws_deflate_server_window_bits": 15,
    "ws_deflate_client_window_bits": 15,
    "ws_deflate_mem_level": 8,
    "ws_deflate_threshold": 256,
    "ws_idle_timeout": None,
}


def test_defaults():
    config = Config("myapp:app")
    assert config.app == "myapp:app"
    for name, value in DEFAULTS.items():
        assert getattr(config, name) == value, name
        assert type(getattr(config, name)) is type(value), name


def test_each_default_passes_its_own_check():
    for option in OPTIONS.values():
        assert option.convert(option.default) == option.default, option.name
        if shown := option.kind.show(option.default):
            assert option.convert(shown) == option.default, option.name


def test_the_table_of_options_is_made_from_the_fields():
    assert set(OPTIONS) == {field.name for field in dataclasses.fields(Config)} - {"app"}
    assert len({option.env for option in OPTIONS.values()}) == len(OPTIONS)
    assert (OPTIONS["ws_max_size"].flag, OPTIONS["ws_max_size"].env) == ("--ws-max-size", "FLOWSERVE_WS_MAX_SIZE")
    assert (OPTIONS["headers"].flag, OPTIONS["headers"].env) == ("--header", "FLOWSERVE_HEADER")
    for option in OPTIONS.values():
        assert option.help.endswith("."), option.name
        assert option.group


def test_a_config_is_frozen_slotted_and_takes_options_by_name_only():
    config = Config("myapp:app")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.port = 1  # type: ignore[misc]
    assert not hasattr(config, "__dict__")
    with pytest.raises(TypeError):
        Config("myapp:app", "127.0.0.1")  # type: ignore[misc]
    with pytest.raises(TypeError):
        Config("myapp:app", prot=1)  # type: ignore[call-arg]


def test_a_copy_with_a_change_is_checked_again():
    config = Config("myapp:app", ws_max_size="1MiB", headers=["a: b"])
    assert dataclasses.replace(config, port=0).ws_max_size == 1 << 20
    with pytest.raises(ConfigError, match="--port"):
        dataclasses.replace(config, port=-1)


def test_a_callable_is_taken_as_it_is():
    async def app(scope, receive, send):
        pass

    assert Config(app).app is app


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("16777216", 16777216),
        ("16MiB", 16 << 20),
        ("64kB", 64000),
        ("64KB", 64000),
        ("64KiB", 65536),
        ("64 kib", 65536),
        (" 2GB ", 2 * 10**9),
        ("1GiB", 1 << 30),
        ("3mb", 3 * 10**6),
        ("12B", 12),
        ("1.5KiB", 1536),
        ("0.5MB", 500000),
        (123, 123),
    ],
)
def test_sizes(text, value):
    config = Config("a:b", ws_max_size=text)
    assert config.ws_max_size == value
    assert type(config.ws_max_size) is int


@pytest.mark.parametrize(
    "wrong",
    [
        "", "16 bananas", "MiB", "1.0001B", "-1", "+5", "1e3", "1_000", "16Mi B", "0x10", "\u0661",
        "9" * 5000, "9" * 400 + ".5",
        1.0, None, True, b"16", [], float("nan"),
    ],
)  # fmt: skip
def test_what_is_not_a_size(wrong):
    with pytest.raises(
        ConfigError, match=r"^--ws-max-size: .* is not a size; write a number of bytes or e\.g\. 16MiB$"
    ):
        Config("a:b", ws_max_size=wrong)


@pytest.mark.parametrize("wrong", ["0", 0, -1, sys.maxsize + 1, "99999999999GiB"])
def test_sizes_out_of_range(wrong):
    with pytest.raises(ConfigError, match=r"^--ws-max-size: .* is out of range"):
        Config("a:b", ws_max_size=wrong)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.5s", 1.5),
        ("500ms", 0.5),
        ("2m", 120.0),
        ("2min", 120.0),
        ("1h", 3600.0),
        ("2d", 172800.0),
        ("30", 30.0),
        ("0.25", 0.25),
        ("1 S", 1.0),
        (7, 7.0),
        (0.1, 0.1),
    ],
)
def test_durations(text, value):
    config = Config("a:b", timeout_header=text)
    assert config.timeout_header == value
    assert type(config.timeout_header) is float


@pytest.mark.parametrize(
    "wrong", ["", "soon", "5 parsecs", "-1s", "1e3", "inf", "nan", float("inf"), float("nan"), True, None, "off"]
)
def test_what_is_not_a_duration(wrong):
    with pytest.raises(ConfigError, match=r"^--timeout-header: .* is not a duration; write .* e\.g\. 20s, 500ms, 2m$"):
        Config("a:b", timeout_header=wrong)


def test_durations_out_of_range():
    with pytest.raises(ConfigError, match=r"^--timeout-header: '0s' is too short; write a duration above 0$"):
        Config("a:b", timeout_header="0s")
    with pytest.raises(ConfigError, match=r"^--timeout-keep-alive: -1 is too short; write a duration of 0 or more$"):
        Config("a:b", timeout_keep_alive=-1)
    assert Config("a:b", timeout_keep_alive=0, timeout_graceful_shutdown="0").timeout_keep_alive == 0.0


@pytest.mark.parametrize("name", ["ws_ping_interval", "ws_ping_timeout", "ws_idle_timeout", "limit_concurrency"])
@pytest.mark.parametrize("off", [None, "off", "none", "None", " OFF "])
def test_what_can_be_off(name, off):
    assert getattr(Config("a:b", **{name: off}), name) is None


def test_the_refusal_says_that_off_is_possible():
    with pytest.raises(ConfigError, match=r"e\.g\. 20s, 500ms, 2m, or off$"):
        Config("a:b", ws_ping_interval="never")
    with pytest.raises(ConfigError, match=r"^--ws-ping-interval: 0 is too short; write a duration above 0, or off$"):
        Config("a:b", ws_ping_interval=0)


@given(st.integers(1, sys.maxsize))
def test_a_size_that_is_shown_reads_back(value):
    assert size().parse(size().show(value)) == value


@given(st.integers(0, 10**9).map(lambda millis: millis / 1000))
def test_a_duration_that_is_shown_reads_back(value):
    kind = duration(zero=True)
    assert kind.parse(kind.show(value)) == pytest.approx(value, rel=1e-9)


@given(st.text())
def test_any_text_is_a_value_or_a_refusal_of_one_line(text):
    refusals = []
    for option in OPTIONS.values():
        try:
            option.convert(text)
        except ConfigError as error:
            refusals.append((option.flag, str(error)))
    for flag, message in refusals:
        assert message.startswith(flag + ": ")
        assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "shown"), [("ws_max_size", "16MiB"), ("h1_max_header_size", "64KiB"), ("ws_ping_interval", "20s")]
)
def test_defaults_are_shown_in_units(name, shown):
    assert OPTIONS[name].kind.show(OPTIONS[name].default) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.5, "500ms"), (90.0, "90s"), (120.0, "2m"), (3600.0, "1h"), (1.5, "1.5s"), (0.0, "0s")]
)
def test_shown_durations(value, shown):
    assert duration(zero=True).show(value) == shown


@pytest.mark.parametrize("port", [0, 65535, "0", "65535", " 80 "])
def test_ports(port):
    assert Config("a:b", port=port).port == int(port)


@pytest.mark.parametrize("port", [-1, 65536, "65536", "http", "", "80.0", 80.0, None, True, "8" * 5000])
def test_wrong_ports(port):
    with pytest.raises(ConfigError, match=r"^--port: .* is not a whole number from 0 to 65535$"):
        Config("a:b", port=port)


@pytest.mark.parametrize(
    "name", ["backlog", "h1_max_header_count", "ws_max_queue", "ws_max_frames_per_message", "limit_concurrency"]
)
def test_numbers_are_positive(name):
    assert getattr(Config("a:b", **{name: "1"}), name) == 1
    with pytest.raises(ConfigError, match=rf"^{OPTIONS[name].flag}: 0 is not a whole number of at least 1"):
        Config("a:b", **{name: 0})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("lifespan", ["auto", "on", "off"]),
        ("loop", ["auto", "uvloop", "asyncio"]),
        ("interface", ["auto", "asgi3", "asgi2", "wsgi"]),
        ("log_level", ["critical", "error", "warning", "info", "debug", "trace"]),
        ("ssl_cert_reqs", ["none"]),
    ],
)
def test_choices(name, values):
    for value in values:
        assert getattr(Config("a:b", **{name: value}), name) == value
        assert getattr(Config("a:b", **{name: value.upper()}), name) == value
    for wrong in ("", "automatic", None, 7, ["auto"], values):
        with pytest.raises(ConfigError, match=rf"^{OPTIONS[name].flag}: .* is not one of {values[0]}"):
            Config("a:b", **{name: wrong})


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (0, "none"),
        ("1", "optional"),
        (2, "required"),
        (ssl.CERT_NONE, "none"),
        (ssl.CERT_REQUIRED, "required"),
        ("REQUIRED", "required"),
    ],
)
def test_cert_reqs_as_uvicorn_takes_them(given, value):
    config = Config("a:b", ssl_certfile="c.pem", ssl_ca_certs="ca.pem", ssl_cert_reqs=given)
    assert config.ssl_cert_reqs == value


@pytest.mark.parametrize(
    ("given", "value"), [(True, True), ("yes", True), ("On", True), ("1", True), ("false", False), ("0", False)]
)
def test_switches(given, value):
    assert Config("a:b", access_log=given).access_log is value


@pytest.mark.parametrize("wrong", ["", "maybe", 1, 0, None])
def test_wrong_switches(wrong):
    with pytest.raises(ConfigError, match=r"^--access-log: .* is neither on nor off$"):
        Config("a:b", access_log=wrong)


def test_colours_are_on_off_or_automatic():
    assert Config("a:b", use_colors="auto").use_colors is None
    assert Config("a:b", use_colors="off").use_colors is False
    assert Config("a:b", use_colors=True).use_colors is True


def test_headers():
    expected = (("X-One", "1"), ("x-two", "a: b"))
    assert Config("a:b", headers=[("X-One", "1"), ("x-two", "a: b")]).headers == expected
    assert Config("a:b", headers=[["X-One", "1"], "x-two:a: b "]).headers == expected
    assert Config("a:b", headers="X-One: 1\n\nx-two: a: b\n").headers == expected
    assert Config("a:b", headers=["X-Empty:"]).headers == (("X-Empty", ""),)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["no colon"], "'no colon' is not a header; write 'Name: value'"),
        ([("a", 1)], "write a pair"),
        ([("a", "b", "c")], "write a pair"),
        ([7], "write a pair"),
        ([b"a: b"], "write a pair"),
        (["a b: c"], "can't be the name"),
        ([": c"], "can't be the name"),
        ([("a:", "c")], "can't be the name"),
        ([("a", "b\r\nc: d")], "can't be the value"),
        ([("a", "b\n")], "can't be the value"),
        ([("a\n", "b")], "can't be the name"),
        ([("a", "b\0")], "can't be the value"),
        ([("a", "\u20ac")], "can't be the value"),
        ({"a": "b"}, "a list of pairs is wanted, not dict"),
        (None, "a list of pairs is wanted, not NoneType"),
    ],
)
def test_wrong_headers(wrong, says):
    with pytest.raises(ConfigError) as caught:
        Config("a:b", headers=wrong)
    assert str(caught.value).startswith("--header: ")
    assert says in str(caught.value)


def test_root_path():
    assert Config("a:b", root_path="/api").root_path == "/api"
    assert Config("a:b", root_path="/api/").root_path == "/api"
    assert Config("a:b", root_path="/").root_path == ""
    with pytest.raises(ConfigError, match=r"^--root-path: 'api' must start with a slash, e\.g\. '/api'$"):
        Config("a:b", root_path="api")


def test_paths():
    config = Config("a:b", ssl_certfile=pathlib.Path("c.pem"), ssl_keyfile="k.pem", app_dir=pathlib.Path("src"))
    assert (config.ssl_certfile, config.ssl_keyfile, config.app_dir) == ("c.pem", "k.pem", "src")
    for wrong in ("", 7, b"c.pem"):
        with pytest.raises(ConfigError, match=r"^--ssl-certfile: "):
            Config("a:b", ssl_certfile=wrong)


def test_text():
    with pytest.raises(ConfigError, match=r"^--host: an empty value means nothing here"):
        Config("a:b", host="")
    with pytest.raises(ConfigError, match=r"^--host: text is wanted, not bytes$"):
        Config("a:b", host=b"localhost")


def test_a_password_stays_out_of_repr():
    config = Config("a:b", ssl_certfile="c.pem", ssl_keyfile_password="hunter2")
    assert config.ssl_keyfile_password == "hunter2"
    assert "hunter2" not in repr(config)


def test_uds_and_fd_exclude_each_other():
    with pytest.raises(ConfigError, match="--uds and --fd exclude each other"):
        Config("a:b", uds="/tmp/s", fd=3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ssl_keyfile", "k.pem"),
        ("ssl_keyfile_password", "secret"),
        ("ssl_ca_certs", "ca.pem"),
        ("ssl_cert_reqs", "required"),
        ("ssl_ciphers", "HIGH"),
    ],
)
def test_tls_options_need_a_certificate(name, value):
    with pytest.raises(ConfigError, match=f"^{OPTIONS[name].flag}: .*--ssl-certfile$"):
        Config("a:b", **{name: value})


def test_clients_certificates_need_authorities():
    with pytest.raises(ConfigError, match=r"^--ssl-cert-reqs: .* --ssl-ca-certs$"):
        Config("a:b", ssl_certfile="c.pem", ssl_cert_reqs="required")


def test_ssl_is_on_with_a_certificate():
    assert not Config("a:b").ssl
    assert Config("a:b", ssl_certfile="c.pem").ssl
