"""Every option: how values are read, what is refused, and what the refusal says."""

from __future__ import annotations

import copy
import dataclasses
import os
import pathlib
import pickle
import re
import ssl
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowserve.config import Config
from flowserve.config.addresses import Bind
from flowserve.config.config import OPTIONS, duration, size
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
    "log_query": "redact",
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


PYTHON_ONLY = {"app", "ssl_context_factory", "callback_notify", "timeout_notify", "_by_flag"}


def test_a_pickle_of_another_version():
    """An option more than here, and one less."""
    state = Config("a:b", port=1, ws_max_size="1MiB").__getstate__()
    del state["ws_max_size"]
    config = object.__new__(Config)
    config.__setstate__({"an_option_of_later": 1, **state})
    assert config == Config("a:b", port=1)


def test_the_table_of_options_is_made_from_the_fields():
    assert set(OPTIONS) == {field.name for field in dataclasses.fields(Config)} - PYTHON_ONLY
    assert len({option.env for option in OPTIONS.values()}) == len(OPTIONS)
    assert (OPTIONS["ws_max_size"].flag, OPTIONS["ws_max_size"].env) == ("--ws-max-size", "FLOWSERVE_WS_MAX_SIZE")
    assert (OPTIONS["headers"].flag, OPTIONS["headers"].env) == ("--header", "FLOWSERVE_HEADER")
    for option in OPTIONS.values():
        assert option.help.endswith("."), option.name
        assert option.group


def test_copies_name_options_as_their_original_does():
    """Workers get a pickled one, of which they say what is wrong."""
    of_command = {"_by_flag": True}
    for options, named in ((of_command, "--ssl-keyfile: "), ({}, "ssl_keyfile: ")):
        config = Config("a:b", ws_max_size="1MiB", **options)
        copies = (pickle.loads(pickle.dumps(config)), copy.copy(config), copy.deepcopy(config))
        for each in (*copies, dataclasses.replace(config, port=8000)):
            assert each == config
            with pytest.raises(ConfigError, match=f"^{named}"):
                dataclasses.replace(each, ssl_keyfile="key.pem")


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
    with pytest.raises(ConfigError, match="port"):
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
    with pytest.raises(ConfigError, match=r"^ws_max_size: .* is not a size; write a number of bytes or e\.g\. 16MiB$"):
        Config("a:b", ws_max_size=wrong)


@pytest.mark.parametrize("wrong", ["0", 0, -1, sys.maxsize + 1, "99999999999GiB"])
def test_sizes_out_of_range(wrong):
    with pytest.raises(ConfigError, match=r"^ws_max_size: .* is out of range"):
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
    with pytest.raises(ConfigError, match=r"^timeout_header: .* is not a duration; write .* e\.g\. 20s, 500ms, 2m$"):
        Config("a:b", timeout_header=wrong)


def test_durations_out_of_range():
    with pytest.raises(ConfigError, match=r"^timeout_header: '0s' is too short; write a duration above 0$"):
        Config("a:b", timeout_header="0s")
    with pytest.raises(ConfigError, match=r"^timeout_keep_alive: -1 is too short; write a duration of 0 or more$"):
        Config("a:b", timeout_keep_alive=-1)
    with pytest.raises(ConfigError, match=r"^timeout_header: '9999999h' is too long; the most is 1000000000 seconds$"):
        Config("a:b", timeout_header="9999999h")
    assert Config("a:b", timeout_keep_alive=0, timeout_graceful_shutdown="0").timeout_keep_alive == 0.0


@pytest.mark.parametrize("name", ["ws_ping_interval", "ws_ping_timeout", "ws_idle_timeout", "limit_concurrency"])
@pytest.mark.parametrize("off", [None, "off", "none", "None", " OFF ", False])
def test_what_can_be_off(name, off):
    assert getattr(Config("a:b", **{name: off}), name) is None


def test_the_refusal_says_that_off_is_possible():
    with pytest.raises(ConfigError, match=r"e\.g\. 20s, 500ms, 2m, or off$"):
        Config("a:b", ws_ping_interval="never")
    with pytest.raises(ConfigError, match=r"^ws_idle_timeout: 0 is too short; write a duration above 0, or off$"):
        Config("a:b", ws_idle_timeout=0)
    for zero in (0, 0.0, "0"):
        assert Config("a:b", ws_ping_interval=zero, ws_ping_timeout=zero).ws_ping_interval is None


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


def files_values():
    """What TOML can hold."""
    scalars = st.one_of(
        st.booleans(), st.integers(), st.just(10**400), st.floats(), st.text(), st.datetimes(), st.dates(), st.times()
    )
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    )


@given(files_values())
def test_whatever_a_file_holds_is_a_value_or_a_refusal_of_one_line(value):
    refusals = []
    for option in OPTIONS.values():
        try:
            option.convert(value)
        except ConfigError as error:
            refusals.append(str(error))
    assert all(len(message.splitlines()) == 1 for message in refusals)


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
    with pytest.raises(ConfigError, match=r"^port: .* is not a whole number from 0 to 65535$"):
        Config("a:b", port=port)


@pytest.mark.parametrize(
    "name", ["h1_max_header_count", "ws_max_queue", "ws_max_frames_per_message", "limit_concurrency"]
)
def test_numbers_are_positive(name):
    assert getattr(Config("a:b", **{name: "1"}), name) == 1
    with pytest.raises(ConfigError, match=rf"^{name}: 0 is not a whole number of at least 1"):
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
    for wrong in ("", "automatic", -7, ["auto"], values):
        with pytest.raises(ConfigError, match=rf"^{name}: .* is not one of {values[0]}"):
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
    with pytest.raises(ConfigError, match=r"^access_log: .* is neither on nor off$"):
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
    own = (("Server", "x"), ("Date", "today"), ("Content-Type", "text/plain"), ("Upgrade-Insecure-Requests", "1"))
    assert Config("a:b", headers=own).headers == own
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
        (["Content-Length: 5"], "'Content-Length' can't be the same in every response"),
        (["transfer-encoding: chunked"], "can't be the same"),
        (["Connection: close"], "can't be the same"),
        (["KEEP-ALIVE: timeout=5"], "can't be the same"),
        (["Upgrade: h2c"], "can't be the same"),
        (["Trailer: x"], "can't be the same"),
        (["Sec-WebSocket-Accept: x"], "can't be the same"),
        ([("Sec-WebSocket-Protocol", "chat")], "can't be the same"),
        ([": c"], "can't be the name"),
        ([("a:", "c")], "can't be the name"),
        ([("a", "b\r\nc: d")], "can't be the value"),
        ([("a", "b\n")], "can't be the value"),
        ([("a\n", "b")], "can't be the name"),
        ([("a", "b\0")], "can't be the value"),
        ([("a", "\u20ac")], "can't be the value"),
        ({"a": "b"}, "a list of pairs is wanted, not dict"),
    ],
)
def test_wrong_headers(wrong, says):
    with pytest.raises(ConfigError) as caught:
        Config("a:b", headers=wrong)
    assert str(caught.value).startswith("headers: ")
    assert says in str(caught.value)


def test_root_path():
    assert Config("a:b", root_path="/api").root_path == "/api"
    assert Config("a:b", root_path="/api/").root_path == "/api"
    assert Config("a:b", root_path="/").root_path == ""
    with pytest.raises(ConfigError, match=r"^root_path: 'api' must start with a slash, e\.g\. '/api'$"):
        Config("a:b", root_path="api")


def test_paths():
    config = Config("a:b", ssl_certfile=pathlib.Path("c.pem"), ssl_keyfile="k.pem", app_dir=pathlib.Path("src"))
    assert (config.ssl_certfile, config.ssl_keyfile, config.app_dir) == ("c.pem", "k.pem", "src")
    for wrong in ("", 7, b"c.pem"):
        with pytest.raises(ConfigError, match=r"^ssl_certfile: "):
            Config("a:b", ssl_certfile=wrong)


def test_text():
    with pytest.raises(ConfigError, match=r"^host: an empty value means nothing here"):
        Config("a:b", host="")
    with pytest.raises(ConfigError, match=r"^host: text is wanted, not bytes$"):
        Config("a:b", host=b"localhost")


def test_one_place_to_listen():
    assert Config("a:b", metrics=":9100").metrics == Bind(host="0.0.0.0", port=9100)
    assert Config("a:b", metrics="[::1]:9100").metrics == Bind(host="::1", port=9100)
    assert Config("a:b", metrics="unix:/m.sock,mode=600").metrics == Bind(path="/m.sock", mode=0o600)
    assert str(Config("a:b", metrics="unix:/m.sock,mode=060").metrics) == "unix:/m.sock,mode=060"
    assert Config("a:b", metrics=Bind(host="a", port=1)).metrics == Bind(host="a", port=1)
    assert Config("a:b").metrics is None
    for wrong in ("9100", "fd:3", "systemd", "127.0.0.1:99999", "a:1 b:2", "unix:", "", 9100, Bind(fd=3)):
        with pytest.raises(ConfigError, match=r"^metrics: .* is no place to listen; write host:port, "):
            Config("a:b", metrics=wrong)


def test_places_to_listen():
    text = "127.0.0.1:80 [::1]:81 :82 localhost:0 unix:/a.sock unix:b,mode=660 fd:3 fd://4 systemd [fe80::1%br-a.5]:83"
    places = (
        Bind(host="127.0.0.1", port=80),
        Bind(host="::1", port=81),
        Bind(host="0.0.0.0", port=82),
        Bind(host="localhost"),
        Bind(path="/a.sock"),
        Bind(path="b", mode=0o660),
        Bind(fd=3),
        Bind(fd=4),
        Bind(systemd=True),
        Bind(host="fe80::1%br-a.5", port=83),
    )
    assert Config("a:b", bind=text).bind == places
    assert Config("a:b", bind=text.split()).bind == Config("a:b", bind=places).bind == places
    assert Config("a:b", bind=places[0]).bind == places[:1]
    assert Config("a:b", bind=["unix:a b"]).bind == (Bind(path="a b"),)
    assert Config("a:b", bind=OPTIONS["bind"].kind.show(places)).bind == places


@pytest.mark.parametrize(
    "wrong",
    ["80", "localhost", "a:b", "a:65536", "::1:80", "[::1]", "a b:80", "unix:", "fd:", "fd:x", "fd:-1", "tcp:1:2"],
)
def test_wrong_places_to_listen(wrong):
    with pytest.raises(ConfigError, match=r"^bind: .* is no place to listen; write host:port, "):
        Config("a:b", bind=[wrong])


@pytest.mark.parametrize("mode", ["", "6", "999", "0x1b0", "u=rw", "00660"])
def test_wrong_mode_of_a_unix_path(mode):
    with pytest.raises(ConfigError, match=r"^bind: 'unix:a,mode=.*' has no mode of three or four octal digits"):
        Config("a:b", bind=f"unix:a,mode={mode}")


def test_trusted_addresses():
    given = "10.0.0.1, 10.1.2.3/8 ::1 2001:db8::/32,192.168.0.0/32 unix *"
    expected = ("10.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32", "192.168.0.0", "unix", "*")
    assert Config("a:b", forwarded_allow_ips=given).forwarded_allow_ips == expected
    assert Config("a:b", forwarded_allow_ips=["10.0.0.1,::1", "unix"]).forwarded_allow_ips == (
        "10.0.0.1",
        "::1",
        "unix",
    )
    for wrong in ("localhost", "10.0.0", "10.0.0.1/33", "10.0.0.1:80", "[::1]"):
        with pytest.raises(ConfigError, match=r"^forwarded_allow_ips: .* is neither an address nor a network; "):
            Config("a:b", forwarded_allow_ips=wrong)


def test_hosts_and_origins():
    hosts = "Example.com,*.example.com localhost:8000 [::1]:80 *"
    expected = ("example.com", "*.example.com", "localhost:8000", "[::1]:80", "*")
    assert Config("a:b", allowed_hosts=hosts).allowed_hosts == expected
    for wrong in ("https://example.com", "*example.com", "a.*.com", "a/b", "a..b", ".a"):
        with pytest.raises(ConfigError, match=r"^allowed_hosts: .* is not a host; "):
            Config("a:b", allowed_hosts=wrong)
    origins = ["https://Example.com", "https://*.example.com:8443", "http://[::1]:80", "null", "*"]
    assert Config("a:b", ws_allowed_origins=origins).ws_allowed_origins == tuple(map(str.lower, origins))
    for wrong in ("example.com", "https://", "https://a/b", "https://*a.com", "https://a.com/"):
        with pytest.raises(ConfigError, match=r"^ws_allowed_origins: .* is not an origin; "):
            Config("a:b", ws_allowed_origins=wrong)


def test_lists_of_paths_and_patterns(tmp_path):
    assert Config("a:b", reload_dirs=f"a{os.pathsep}b c").reload_dirs == ("a", "b c")
    assert Config("a:b", reload_dirs=[tmp_path, f"a{os.pathsep}b"]).reload_dirs == (str(tmp_path), f"a{os.pathsep}b")
    assert Config("a:b", reload_includes="*.py,*.html *.css").reload_includes == ("*.py", "*.html", "*.css")


def test_numbers_of_workers():
    assert Config("a:b", workers="2").workers == 2
    assert Config("a:b", workers=" Auto ").workers >= 1
    for wrong in ("0", 0, "many", 1.5, True):
        with pytest.raises(ConfigError, match=r"^workers: .* is not a whole number from 1 to 4096, or auto$"):
            Config("a:b", workers=wrong)


@pytest.mark.parametrize("name", ["ws_shutdown_code", "ws_slow_consumer_code"])
def test_close_codes(name):
    for code in (1000, 1001, 1008, "1011", 1012, 1013, 3000, 4999):
        assert getattr(Config("a:b", **{name: code}), name) == int(code)
    for wrong in (999, 1002, 1005, 1006, 1014, 1015, 2999, 5000, "gone"):
        with pytest.raises(ConfigError, match=rf"^{name}: .*{wrong}.* is not a "):
            Config("a:b", **{name: wrong})


def test_formats_of_access_lines():
    text = '%(client)s "%(method)s %(target)s" %(status)s %(duration).3f'
    assert Config("a:b", access_log_format=text).access_log_format == text
    with pytest.raises(ConfigError, match=r"^access_log_format: there is no field 'h'; the fields are time, "):
        Config("a:b", access_log_format="%(h)s")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"log_config": "l.json", "log_format": "json"}, "log_config and log_format exclude each other"),
        (
            {"log_config": "l.json", "access_log_format": "%(kind)s"},
            "log_config and access_log_format exclude each other",
        ),
        ({"ws_shutdown_reason": "\u20ac" * 42}, "ws_shutdown_reason: a close frame holds 123 bytes at most"),
        ({"uds": "a", "bind": "b:1"}, "uds, fd and bind exclude each other"),
        ({"wsgi_threads": 8}, "wsgi_threads: only WSGI applications have threads"),
        ({"ssl_reload": True}, "ssl_reload: TLS needs a certificate too"),
    ],
)
def test_combinations_that_make_no_sense(options, says):
    with pytest.raises(ConfigError, match=f"^{re.escape(says)}"):
        Config("a:b", **options)


def test_several_processes_need_the_name_of_the_application():
    async def app(scope, receive, send):
        pass

    for options in ({"workers": 2}, {"reload": True}):
        with pytest.raises(ConfigError, match="name it as 'module:attribute'"):
            Config(app, **options)


def test_secrets_are_known():
    assert [option.name for option in OPTIONS.values() if option.secret] == ["ssl_keyfile_password", "topics_url"]


def test_a_password_stays_out_of_repr():
    config = Config("a:b", ssl_certfile="c.pem", ssl_keyfile_password="hunter2")
    assert config.ssl_keyfile_password == "hunter2"
    assert "hunter2" not in repr(config)


def test_uds_and_fd_exclude_each_other():
    with pytest.raises(ConfigError, match="uds, fd and bind exclude each other"):
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
    with pytest.raises(ConfigError, match=f"^{name}: .*ssl_certfile$"):
        Config("a:b", **{name: value})


def test_clients_certificates_need_authorities():
    with pytest.raises(ConfigError, match=r"^ssl_cert_reqs: .* ssl_ca_certs$"):
        Config("a:b", ssl_certfile="c.pem", ssl_cert_reqs="required")


def test_ssl_is_on_with_a_certificate():
    assert not Config("a:b").ssl
    assert Config("a:b", ssl_certfile="c.pem").ssl
