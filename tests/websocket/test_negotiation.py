"""Negotiation of permessage-deflate (RFC 7692 section 7.1), in both roles."""

from __future__ import annotations

import dataclasses
import time
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.compression import SHARED, SMALL, TAKEOVER, each_context, settings_strategy
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)

from flowserve.errors import HandshakeError
from flowserve.websocket.deflate import DeflateParameters, DeflateSettings
from flowserve.websocket.negotiation import accept, check_extensions, offer, parse_extensions, read_answer

# Negotiation: the grammar


@pytest.mark.parametrize(
    ("values", "extensions"),
    [
        ([], []),
        ([b"", b"a"], [("a", [])]),
        ([b" , ,\t,", b"a"], [("a", [])]),  # RFC 9110 section 5.6.1.2: empty elements are to be ignored
        ([b"permessage-deflate"], [("permessage-deflate", [])]),
        ([b"foo, bar; baz=2"], [("foo", []), ("bar", [("baz", "2")])]),  # RFC 6455 section 9.1
        ([b'foo; bar="2"'], [("foo", [("bar", "2")])]),
        ([b'foo; bar="a\\b\\c"'], [("foo", [("bar", "abc")])]),
        ([b"a;b;c=d;b"], [("a", [("b", None), ("c", "d"), ("b", None)])]),
        ([b"\ta ;\tb = c ,, d\t;e "], [("a", [("b", "c")]), ("d", [("e", None)])]),
        ([b"deflate-stream", b"mux; max-channels=4; flow-control, deflate-stream"],
         [("deflate-stream", []), ("mux", [("max-channels", "4"), ("flow-control", None)]), ("deflate-stream", [])]),
        ([b"a!#$%&'*+-.^_`|~9; b"], [("a!#$%&'*+-.^_`|~9", [("b", None)])]),
    ],
)  # fmt: skip
def test_parses_what_the_grammar_allows(values, extensions):
    assert parse_extensions(values) == extensions


@pytest.mark.parametrize(
    "value",
    [
        *(
            b"a b",
            b"a;",
            b"a;;b",
            b"; a",
            b"a; b=",
            b"a; =b",
            b"a; b=c d",
            b"a; b==c",
            b"=a",
            b"a=b",
            b"a/b",
            b"a; b=c/d",
        ),
        *(b'a; b="', b'a; b="c', b'a; b="c d"', b'a; b=""', b'a; b="c"d', b'a; b="c\\"', b'"a"', b"a; b=(c)"),
        *(b"\xe4", b"a; b=\xff", b"a\x00", b"a; b\r\n"),
        b"a; b=" + b"c" * 300 + b"/",
    ],
)
def test_refuses_what_the_grammar_does_not_allow(value):
    """RFC 6455 section 9.1: 'the recipient of such malformed data MUST immediately Fail the WebSocket Connection'."""
    for refuse in (parse_extensions, check_extensions, partial(accept, SHARED)):
        for values in ([value], [b"permessage-deflate", value], [value, b"permessage-deflate"]):
            with pytest.raises(HandshakeError) as caught:
                refuse(values)
            assert caught.value.status == 400
    with pytest.raises(HandshakeError) as caught:
        read_answer(SHARED, [value])
    assert caught.value.status == 101


@pytest.mark.parametrize("values", [[b""], [b" "], [b" , ,\t,"], [b"", b""]])
def test_a_list_has_an_element(values):
    """1#extension: empty elements don't count (RFC 9110 section 5.6.1.2)."""
    for refuse in (check_extensions, partial(accept, SHARED), partial(read_answer, SHARED)):
        with pytest.raises(HandshakeError):
            refuse(values)


@pytest.mark.parametrize(
    "hostile",
    [b'a; b="' + b"\\" * 60001, b"a" + b" " * 60000 + b"/", b"a; b" + b" ;" * 30000, b"," * 60000],
    ids=["backslashes", "spaces", "semicolons", "commas"],
)
def test_parses_in_linear_time(hostile):
    start = time.process_time()
    with pytest.raises(HandshakeError):
        accept(SHARED, [hostile])
    assert time.process_time() - start < 1


@given(st.lists(st.binary(max_size=60), max_size=3))
def test_any_header_is_read_or_refused(values):
    try:
        check_extensions(values)
    except HandshakeError:
        with pytest.raises(HandshakeError, match="400"):
            accept(SHARED, values)
    else:
        accept(SHARED, values)


words = (
    b'permessage-deflate client_max_window_bits server_max_window_bits server_no_context_takeover = ; , " 10 8'.split()
)


@given(st.lists(st.sampled_from(words), max_size=12))
def test_answer_never_goes_beyond_the_offer(tokens):
    try:
        accepted = accept(TAKEOVER, [b"".join(tokens)])
    except HandshakeError:
        return
    if accepted:
        parameters, answer = accepted
        assert 9 <= parameters.server_max_window_bits <= 15
        assert 8 <= parameters.client_max_window_bits <= 15
        [(name, _)] = parse_extensions([answer])
        assert name == "permessage-deflate"
        assert b"client_max_window_bits" not in answer or b"client_max_window_bits" in tokens


# Negotiation: the server


NO_CONTEXT = "; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("value", "answer", "server_bits", "client_bits"),
    [
        ("permessage-deflate", NO_CONTEXT, 15, 15),
        ("permessage-deflate; client_max_window_bits", NO_CONTEXT, 15, 15),
        ("permessage-deflate; client_max_window_bits=15", NO_CONTEXT, 15, 15),
        ("permessage-deflate; client_max_window_bits=8", NO_CONTEXT + "; client_max_window_bits=8", 15, 8),
        ('permessage-deflate; client_max_window_bits="10"', NO_CONTEXT + "; client_max_window_bits=10", 15, 10),
        ("permessage-deflate; server_max_window_bits=15", NO_CONTEXT + "; server_max_window_bits=15", 15, 15),
        ("permessage-deflate; server_max_window_bits=9", NO_CONTEXT + "; server_max_window_bits=9", 9, 15),
        ("permessage-deflate; server_no_context_takeover", NO_CONTEXT, 15, 15),
        ("permessage-deflate; client_no_context_takeover", NO_CONTEXT, 15, 15),
        # RFC 7692 section 7.1.3
        ("permessage-deflate; client_max_window_bits; server_max_window_bits=10",
         NO_CONTEXT + "; server_max_window_bits=10", 10, 15),
        ("permessage-deflate; client_max_window_bits; server_max_window_bits=10, "
         "permessage-deflate; client_max_window_bits",
         NO_CONTEXT + "; server_max_window_bits=10", 10, 15),
        # the first offer is declined, the second taken
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", NO_CONTEXT, 15, 15),
        ("permessage-deflate; unknown, permessage-deflate; server_max_window_bits=12",
         NO_CONTEXT + "; server_max_window_bits=12", 12, 15),
        ("x-webkit-deflate-frame, permessage-bzip2; level=9, permessage-deflate", NO_CONTEXT, 15, 15),
    ],
)  # fmt: skip
def test_shared_context_accepts(value, answer, server_bits, client_bits):
    assert accept(SHARED, [value.encode()]) == (
        DeflateParameters(True, True, server_bits, client_bits),
        f"permessage-deflate{answer}".encode(),
    )


@pytest.mark.parametrize(
    ("value", "answer", "parameters"),
    [
        ("permessage-deflate", "", (False, False, 15, 15)),
        ("permessage-deflate; server_no_context_takeover", "; server_no_context_takeover", (True, False, 15, 15)),
        ("permessage-deflate; client_no_context_takeover", "; client_no_context_takeover", (False, True, 15, 15)),
        ("permessage-deflate; server_max_window_bits=10", "; server_max_window_bits=10", (False, False, 10, 15)),
        ("permessage-deflate; client_max_window_bits=10", "; client_max_window_bits=10", (False, False, 15, 10)),
    ],
)
def test_takeover_accepts(value, answer, parameters):
    header = f"permessage-deflate{answer}".encode()
    assert accept(TAKEOVER, [value.encode()]) == (DeflateParameters(*parameters), header)


def test_own_window_bits_bound_what_is_agreed():
    small = DeflateSettings(context="takeover", send_window_bits=11, receive_window_bits=12)
    assert accept(small, [b"permessage-deflate"]) == (DeflateParameters(False, False, 11, 15), b"permessage-deflate")
    assert accept(small, [b"permessage-deflate; client_max_window_bits; server_max_window_bits=14"]) == (
        DeflateParameters(False, False, 11, 12),
        b"permessage-deflate; server_max_window_bits=11; client_max_window_bits=12",
    )
    assert accept(small, [b"permessage-deflate; client_max_window_bits=10; server_max_window_bits=9"]) == (
        DeflateParameters(False, False, 9, 10),
        b"permessage-deflate; server_max_window_bits=9; client_max_window_bits=10",
    )


def test_offers_come_in_order_from_several_headers():
    first, second = b"permessage-deflate; server_max_window_bits=10", b"permessage-deflate; server_max_window_bits=11"
    accepted = accept(TAKEOVER, [b"foo", first, second])
    assert accepted is not None
    assert accepted[1] == first


@pytest.mark.parametrize(
    "parameters",
    [
        *("unknown", "unknown=1", "Server_No_Context_Takeover"),
        *("server_no_context_takeover=1", 'server_no_context_takeover="x"', "client_no_context_takeover=true"),
        *(
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=8",
            "server_max_window_bits=16",
        ),
        *("server_max_window_bits=09", "server_max_window_bits=+9", "server_max_window_bits=1e1"),
        *("server_max_window_bits=-9", "server_max_window_bits=999999999999999999999"),
        *("client_max_window_bits=0", "client_max_window_bits=7", "client_max_window_bits=16"),
        *("client_max_window_bits=08", "client_max_window_bits=x"),
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover; client_no_context_takeover",
        "server_max_window_bits=10; server_max_window_bits=10",
        "client_max_window_bits; client_max_window_bits=10",
    ],
)
def test_illegal_parameters_decline_their_offer_only(parameters):
    bad = f"permessage-deflate; {parameters}".encode()
    assert accept(SHARED, [bad]) is None
    assert accept(SHARED, [bad + b", permessage-deflate"]) is not None
    assert accept(SHARED, [bad, b"permessage-deflate"]) is not None


@pytest.mark.parametrize("value", [b"x-webkit-deflate-frame", b"Permessage-Deflate", b"permessage-deflate2"])
def test_other_extensions_are_passed_over(value):
    assert accept(SHARED, [value]) is None


@pytest.mark.parametrize(
    "value",
    [
        "permessage-deflate; client_max_window_bits",  # Chromium, node ws, Bun, websockets, aiohttp
        "permessage-deflate",  # Firefox, Safari, Jetty
        "permessage-deflate; client_no_context_takeover; server_no_context_takeover",  # coder/websocket
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",  # gorilla, k6
        "permessage-deflate; client_max_window_bits=15; server_max_window_bits=15",  # wsproto
        "permessage-deflate; client_no_context_takeover; client_max_window_bits",  # autobahn
        "permessage-deflate;client_max_window_bits;server_no_context_takeover",  # Netty
        "permessage-deflate;client_max_window_bits,x-webkit-deflate-frame",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15; "
        "client_max_window_bits=15",
        'permessage-deflate; server_max_window_bits="12"; client_max_window_bits',
    ],
)  # fmt: skip
@each_context
def test_accepts_what_clients_send(value, configured):
    accepted = accept(configured, [value.encode()])
    assert accepted is not None
    flags = {part.strip() for part in value.split(";")}
    assert "server_no_context_takeover" not in flags or accepted[0].server_no_context_takeover


# Negotiation: the client


@pytest.mark.parametrize(
    ("configured", "value"),
    [
        (SHARED, "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"),
        (TAKEOVER, "permessage-deflate; client_max_window_bits"),
        (SMALL, "permessage-deflate; server_max_window_bits=10; client_max_window_bits=11"),
    ],
)
def test_offer(configured, value):
    assert offer(configured) == value.encode()


@pytest.mark.parametrize(
    ("configured", "answer", "parameters"),
    [
        (TAKEOVER, "permessage-deflate", (False, False, 15, 15)),
        (TAKEOVER, "permessage-deflate; server_no_context_takeover", (True, False, 15, 15)),
        (TAKEOVER, "permessage-deflate; client_no_context_takeover", (False, True, 15, 15)),
        (TAKEOVER, "permessage-deflate; server_max_window_bits=8", (False, False, 8, 15)),
        (TAKEOVER, 'permessage-deflate; client_max_window_bits="8"', (False, False, 15, 8)),
        (SHARED, "permessage-deflate; server_no_context_takeover", (True, True, 15, 15)),
        (SHARED, "permessage-deflate; server_no_context_takeover; client_no_context_takeover", (True, True, 15, 15)),
        (SHARED, "permessage-deflate", (False, True, 15, 15)),  # some servers pass over what they were offered
        (SHARED, "permessage-deflate; client_no_context_takeover", (False, True, 15, 15)),
        (SMALL, "permessage-deflate; server_max_window_bits=10", (False, False, 10, 11)),
        (SMALL, "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10", (False, False, 9, 10)),
    ],
)
def test_reads_an_answer(configured, answer, parameters):
    assert read_answer(configured, [answer.encode()]) == DeflateParameters(*parameters)


def test_no_answer_is_no_compression():
    assert read_answer(SHARED, []) is None


@pytest.mark.parametrize(
    ("configured", "answers"),
    [
        (TAKEOVER, [b"permessage-bzip2"]),
        (TAKEOVER, [b"permessage-deflate, permessage-deflate"]),
        (TAKEOVER, [b"permessage-deflate", b"permessage-deflate"]),
        (TAKEOVER, [b"permessage-deflate", b"foo"]),
        (TAKEOVER, [b"permessage-deflate; unknown"]),
        (TAKEOVER, [b"permessage-deflate; server_no_context_takeover=1"]),
        (TAKEOVER, [b"permessage-deflate; server_no_context_takeover; server_no_context_takeover"]),
        (TAKEOVER, [b"permessage-deflate; client_max_window_bits"]),
        (TAKEOVER, [b"permessage-deflate; client_max_window_bits=7"]),
        (TAKEOVER, [b"permessage-deflate; client_max_window_bits=16"]),
        (TAKEOVER, [b"permessage-deflate; server_max_window_bits"]),
        (TAKEOVER, [b"permessage-deflate; server_max_window_bits=16"]),
        (TAKEOVER, [b"permessage-deflate; server_max_window_bits=010"]),
        (SMALL, [b"permessage-deflate"]),
        (SMALL, [b"permessage-deflate; server_max_window_bits=11"]),
        (SMALL, [b"permessage-deflate; server_max_window_bits=10; client_max_window_bits=12"]),
    ],
)
def test_illegal_answers_fail_the_connection(configured, answers):
    with pytest.raises(HandshakeError):
        read_answer(configured, answers)


@given(settings_strategy, settings_strategy)
def test_both_roles_agree(server, client):
    accepted = accept(server, [offer(client)])
    if accepted is None:
        assert client.receive_window_bits == 8
    else:
        parameters, answer = accepted
        read = read_answer(client, [answer])
        assert read is not None
        assert read.server_max_window_bits >= parameters.server_max_window_bits  # the server may use less than it may
        assert dataclasses.replace(read, server_max_window_bits=parameters.server_max_window_bits) == parameters


def header(parameters: list[tuple[str, str | bool | None]]) -> bytes:
    flat = [name if value in (None, True) else f"{name}={value}" for name, value in parameters]
    return "; ".join(["permessage-deflate", *flat]).encode()


@each_context
def test_agrees_with_another_implementation(configured):
    server = ServerPerMessageDeflateFactory(server_max_window_bits=12, client_max_window_bits=12)
    [(_, parameters)] = parse_extensions([offer(configured)])
    response, peer = server.process_request_params(parameters, [])
    ours = read_answer(configured, [header(response)])
    assert ours is not None
    assert ours.client_no_context_takeover == peer.remote_no_context_takeover
    assert ours.server_no_context_takeover == peer.local_no_context_takeover

    client = ClientPerMessageDeflateFactory(client_max_window_bits=True)
    accepted = accept(configured, [header(client.get_request_params())])
    assert accepted is not None
    [(_, parameters)] = parse_extensions([accepted[1]])
    assert client.process_response_params(parameters, [])
