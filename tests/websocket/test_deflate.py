from __future__ import annotations

import dataclasses
import random
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.extensions.permessage_deflate import PerMessageDeflate as TheirPerMessageDeflate
from websockets.frames import Frame, Opcode

from flowserve.errors import ConfigError, HandshakeError, PayloadTooBig, ProtocolError
from flowserve.websocket import deflate, deflate_backends
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate import DeflateParameters, DeflateSettings, PerMessageDeflate
from flowserve.websocket.negotiation import accept, check_extensions, offer, parse_extensions, read_answer

MIB = 1 << 20
TAIL = b"\x00\x00\xff\xff"
SHARED = DeflateSettings()
TAKEOVER = DeflateSettings(context="takeover")
SMALL = DeflateSettings(context="takeover", send_window_bits=11, receive_window_bits=10)


def installed() -> list[deflate_backends.Backend]:
    found = []
    for name in ("zlib", "zlib-ng", "isal"):
        try:
            found.append(deflate_backends._backend(name))
        except ImportError:
            pass
    return found


BACKENDS = installed()
each_backend = pytest.mark.parametrize("library", BACKENDS, ids=lambda library: library.name)
each_context = pytest.mark.parametrize("configured", [SHARED, TAKEOVER], ids=lambda configured: configured.context)


def agreed(configured: DeflateSettings, server_bits: int = 15, client_bits: int = 15) -> DeflateParameters:
    shared = configured.context == "shared"
    return DeflateParameters(shared, shared, server_bits, client_bits)


def codec(configured: DeflateSettings, library: deflate_backends.Backend = BACKENDS[0]) -> PerMessageDeflate:
    return PerMessageDeflate(configured, agreed(configured), Role.SERVER, library)


def inflate(receiver: PerMessageDeflate, data: deflate.Data, limit: int, final: bool = False) -> bytes:
    """All that comes out of a piece of a message."""
    out = BytesIO()  # grows in place, and gives its bytes away without a copy
    out.write(receiver.inflate(data, limit, final))
    while receiver.unfinished:
        out.write(receiver.go_on(limit - out.tell()))
    return out.getvalue()


def pieces(receiver: PerMessageDeflate, payload: bytes, size: int, limit: int = MIB) -> bytes:
    """Inflate a message that comes in pieces of `size` bytes."""
    out = b""
    for start in range(0, len(payload), size):
        out += inflate(receiver, payload[start : start + size], limit - len(out))
    return out + inflate(receiver, b"", limit - len(out), True)


def sync_flushed(data: bytes, stream: zlib._Compress | None = None) -> bytes:
    stream = stream or zlib.compressobj(wbits=-15)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def finished(data: bytes, window: bytes = b"") -> bytes:
    """A message that ends in a final block, as RFC 7692 section 7.2.3.4 has it, made with knowledge of `window`."""
    stream = zlib.compressobj(wbits=-15, zdict=window) if window else zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush(zlib.Z_FINISH) + b"\x00"


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def prose(size: int, seed: int = 0) -> bytes:
    source = random.Random(seed)
    words = [b"alpha", b"beta", b"gamma", b"delta", b'{"id": ', b'"text": "', b"online", b"\n"]
    return b" ".join(source.choice(words) for _ in range(size // 4))[:size]


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


settings_strategy = st.builds(
    DeflateSettings,
    context=st.sampled_from(["shared", "takeover"]),
    level=st.integers(1, 9),
    send_window_bits=st.integers(9, 15),
    receive_window_bits=st.integers(8, 15),
    mem_level=st.integers(1, 9),
)


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


# Inflation: the examples of RFC 7692 section 7.2.3


@each_backend
@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ("f2 48 cd c9 c9 07 00", b"Hello"),  # 7.2.3.1, one compressed block
        ("00 05 00 fa ff 48 65 6c 6c 6f 00", b"Hello"),  # 7.2.3.3, no compression
        ("f3 48 cd c9 c9 07 00 00", b"Hello"),  # 7.2.3.4, a final block
        ("f2 48 05 00 00 00 ff ff ca c9 c9 07 00", b"Hello"),  # 7.2.3.5, two blocks
        ("00", b""),  # 7.2.3.6
        ("02 00", b""),  # as isal writes it
        ("03 00 00", b""),
        ("f3 48 cd c9 c9 07 00 f3 48 cd c9 c9 07 00 00", b"HelloHello"),
        ("f3 48 cd c9 c9 07 00 f2 00 11 00 00", b"HelloHello"),  # looking back over a final block
    ],
)
@each_context
def test_inflates_the_examples(library, configured, payload, message):
    data = bytes.fromhex(payload)
    whole = codec(configured, library)
    for _ in range(3):
        assert inflate(whole, data, 100, True) == message
    by_byte = codec(configured, library)
    for _ in range(3):
        assert pieces(by_byte, data, 1) == message


@each_backend
def test_inflates_a_message_in_two_fragments(library):
    receiver = codec(SHARED, library)
    first = inflate(receiver, bytes.fromhex("f2 48 cd"), 5)
    assert first + inflate(receiver, bytes.fromhex("c9 c9 07 00"), 5 - len(first), True) == b"Hello"


@each_backend
def test_takeover_shares_the_window(library):
    """RFC 7692 section 7.2.3.2."""
    receiver = codec(TAKEOVER, library)
    assert inflate(receiver, bytes.fromhex("f2 48 cd c9 c9 07 00"), 5, True) == b"Hello"
    assert inflate(receiver, bytes.fromhex("f2 00 11 00 00"), 5, True) == b"Hello"


@each_backend
def test_shared_context_gives_no_peer_a_look_at_another_message(library):
    receiver = codec(SHARED, library)
    assert inflate(receiver, bytes.fromhex("f2 48 cd c9 c9 07 00"), 5, True) == b"Hello"
    for other in (receiver, codec(SHARED, library)):
        with pytest.raises(ProtocolError):
            inflate(other, bytes.fromhex("f2 00 11 00 00"), 5, True)


@each_backend
def test_a_final_block_keeps_the_window_of_earlier_messages(library):
    receiver = codec(TAKEOVER, library)
    first, second, third = noise(20000, 1), noise(5000, 2), noise(40000, 3)
    history = b""
    for message, size in (
        (b"", 3),
        (first, 20030),
        (second + first[-3000:], 5200),
        (first[:900], 100),
        (b"", 3),
        (second * 3, 1000),
        (third, 40060),
        (third[9000:], 1000),
    ):
        payload = finished(message, history[-32768:])
        assert len(payload) <= size
        assert inflate(receiver, payload[:7], MIB) + inflate(receiver, payload[7:], MIB, True) == message
        history += message


@each_backend
def test_a_final_block_may_come_late(library):
    receiver = codec(TAKEOVER, library)
    first, second = noise(2000, 1), noise(1000, 2)
    for message, payload in (
        (first, sync_flushed(first)),
        (first[:900] + second, finished(first[:900] + second, first)),
        (second[:500] + first[:400], finished(second[:500] + first[:400], first[:900] + second)),
    ):
        assert len(payload) < len(message) + 50
        assert inflate(receiver, payload, MIB, True) == message


@each_backend
def test_a_final_block_keeps_the_window_within_a_message(library):
    first, second = noise(70000, 5), noise(300, 6)
    payload = finished(first)[:-1] + finished(first[-30000:] + second, first[-32768:])
    assert len(payload) < 72000
    for size in (1, 70, 4096, 65536, 1 << 20):
        assert pieces(codec(SHARED, library), payload, size) == first + first[-30000:] + second


# Inflation: bounds


@each_backend
@each_context
@pytest.mark.parametrize("size", [0, 1, 100, 65535, 65536, 65537, 262143, 262144, 262145, 1_000_000])
def test_limit_is_exact(library, configured, size):
    for message in (bytes(size), noise(size)):
        payload = sync_flushed(message)
        assert inflate(codec(configured, library), payload, size, True) == message
        receiver = codec(configured, library)
        assert inflate(receiver, payload, size) + inflate(receiver, b"", 0, True) == message
        if size:
            with pytest.raises(PayloadTooBig):
                inflate(codec(configured, library), payload, size - 1, True)
            with pytest.raises(PayloadTooBig):
                inflate(codec(configured, library), payload, 0, True)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """1 MiB that inflates to 1 GiB."""
    stream = zlib.compressobj(9, wbits=-15)
    block = stream.compress(bytes(MIB)) + stream.flush(zlib.Z_FULL_FLUSH)
    return block * 1024


def drain(receiver: PerMessageDeflate, payload: bytes, size: int, limit: int) -> None:
    for start in range(0, len(payload), size):
        limit -= len(inflate(receiver, payload[start : start + size], limit))


@each_backend
@each_context
@pytest.mark.parametrize("piece", [1000, 65536, 1 << 30])
def test_a_bomb_costs_no_more_than_the_limit(library, configured, bomb, piece):
    limit = 16 * MIB
    receiver = codec(configured, library)
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooBig):
            drain(receiver, bomb, piece, limit)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit * 9 // 8 + 3 * MIB  # 9 / 8 is by how much the buffer grows ahead


@each_backend
@each_context
def test_final_blocks_without_end_are_refused(library, configured):
    empty = bytes.fromhex("01 00 00 ff ff")
    with pytest.raises(ProtocolError):
        inflate(codec(configured, library), empty * 200_000, MIB, True)
    receiver = codec(configured, library)
    for _ in range(3):  # but so many messages with some are fine
        assert inflate(receiver, empty * 1000 + b"\x00", MIB, True) == b""


@each_backend
@each_context
def test_the_smallest_final_blocks_are_passed_over(library, configured):
    receiver = codec(configured, library)
    text = bytes.fromhex("f2 48 cd c9 c9 07 00")  # Hello, without a final block
    assert inflate(receiver, text, MIB, True) == b"Hello"
    for _ in range(3):
        assert inflate(receiver, bytes.fromhex("03 00") * 200_000 + text, MIB, True) == b"Hello"


@each_backend
@each_context
def test_final_blocks_that_look_back_and_that_do_not(library, configured):
    """RFC 7692 section 7.2.3.4: each block may refer to what came before it in the message."""
    receiver = codec(configured, library)
    for _ in range(3):
        message, payload = bytearray(), bytearray()
        for i in range(200):
            piece = b"%d: Hello, Hello!" % (i // 3) if i % 3 else b"x"
            compressor = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=bytes(message[-32768:]) if i % 2 else b"\0")
            payload += compressor.compress(piece) + compressor.flush()
            message += piece
        payload += b"\x00"
        assert inflate(receiver, bytes(payload), MIB, True) == message
        assert inflate(receiver, bytes(payload[:1000]), MIB) + inflate(receiver, bytes(payload[1000:]), MIB, True) == (
            message
        )


@each_backend
@each_context
def test_a_piece_in_parts(library, configured):
    """No more comes out at once than is asked for."""
    sender, receiver = codec(configured, library), codec(configured, library)
    message = b"".join(b"%d Hello, Hello! " % i for i in range(5_000))
    payload = sender.compress(message)
    for most in (1000, 65536, len(message), len(message) + 1):
        left = len(message)
        out = [receiver.inflate(payload, left, True, most)]
        while receiver.unfinished:
            left -= len(out[-1])
            out.append(receiver.go_on(left, most))
        assert b"".join(out) == message
        assert max(map(len, out)) <= most
        payload = sender.compress(message)


@each_backend
@each_context
@pytest.mark.parametrize("read", [1, 7, 512])
def test_a_piece_of_which_little_is_read_at_once(library, configured, read):
    """Final blocks are among it, and blocks that refer to what was before them."""
    sender, receiver = zlib.compressobj(9, zlib.DEFLATED, -15), codec(configured, library)
    message = b"".join(b"%d Hello, Hello! " % i for i in range(1_000))
    payload = sender.compress(message) + sender.flush()
    again = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=message)
    payload += again.compress(message) + again.flush() + b"\x00"
    out = [receiver.inflate(payload, MIB, True, MIB, read)]
    while receiver.unfinished:
        out.append(receiver.go_on(MIB, MIB, read))
    assert b"".join(out) == message * 2
    assert len(out) >= len(payload) // read


@each_backend
@each_context
def test_takes_linear_time_on_empty_blocks(library, configured):
    payload = bytes.fromhex("00 00 00 ff ff") * 200_000 + b"\x00"
    assert inflate(codec(configured, library), payload, 0, True) == b""


# Inflation: broken streams


@each_backend
@each_context
@pytest.mark.parametrize(
    "payload",
    [
        b"\x06",  # a block of the reserved type
        b"\x07\x00",
        b"\x00\x05\x00\xfa\xfeHello\x00",  # LEN and NLEN that don't match
        b"\xf2\x00\x11\x00\x00",  # looking back to before the beginning
        b"\xff\xff\xff\xff\xff",
        b"Hello, not deflated at all",
    ],
)
def test_broken_data_is_a_protocol_error(library, configured, payload):
    with pytest.raises(ProtocolError) as caught:
        inflate(codec(configured, library), payload, MIB, True)
    assert caught.value.close_code == 1002
    with pytest.raises(ProtocolError):
        pieces(codec(configured, library), payload, 1)


@each_backend
def test_a_message_that_stops_short_is_a_protocol_error(library):
    """As far as can be known: some cuts make, with the four bytes that are put back, a message that is sound again."""
    payload = sync_flushed(prose(3000))
    assert len(payload) > 400
    refused = 0
    for cut in range(1, len(payload)):
        try:
            inflate(codec(SHARED, library), payload[:cut], MIB, True)
        except ProtocolError:
            refused += 1
    assert refused > len(payload) * 0.85
    for message in (
        sync_flushed(b"Hello")[:3],
        b"\x00\x05\x00\xfa\xffHe",
        b"\x00\x05",
        finished(b"Hello")[:-1],
        b"\x04",
    ):
        with pytest.raises(ProtocolError):
            inflate(codec(SHARED, library), message, MIB, True)


@each_backend
@each_context
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_one_piece_equals_byte_by_byte(library, configured, data):
    """For whatever the peer sends: sound, broken, cut, with final blocks; the same bytes, or an error."""
    blocks = st.one_of(
        st.binary(max_size=20),
        st.binary(max_size=300).map(sync_flushed),
        st.binary(max_size=300).map(lambda message: sync_flushed(message) + TAIL),
        st.binary(max_size=300).map(finished),
        st.binary(max_size=300).map(lambda message: finished(message)[:-1]),
        st.just(sync_flushed(bytes(2000)) + TAIL),
    )
    messages = data.draw(st.lists(st.lists(blocks, max_size=4).map(b"".join), max_size=3))
    limit = data.draw(st.sampled_from([0, 10, 1000, 5000]))
    whole, by_byte = (codec(configured, library) for _ in range(2))
    for message in messages:
        results: list[bytes | None] = []
        for receiver, size in ((whole, len(message) or 1), (by_byte, 1)):
            try:
                results.append(pieces(receiver, message, size, limit))
            except ProtocolError:  # too big or broken: one piece may be both, and which is seen first is zlib's affair
                results.append(None)
        assert results[0] == results[1]
        if results[0] is None:
            break


# Deflation


@each_backend
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_round_trip(library, data):
    """Any window bits, levels and splits, in both roles; read by zlib itself too, with no more window than agreed."""
    configured = data.draw(settings_strategy)
    server_bits, client_bits = data.draw(st.integers(9, 15)), data.draw(st.integers(8, 15))
    parameters = agreed(configured, server_bits, client_bits)
    server = PerMessageDeflate(configured, parameters, Role.SERVER, library)
    client = PerMessageDeflate(configured, parameters, Role.CLIENT, library)
    message = st.one_of(st.binary(max_size=200), st.integers(0, 40000).map(prose), st.integers(0, 9000).map(noise))
    strict = {
        id(sender): zlib.decompressobj(-bits) for sender, bits in ((server, server_bits), (client, max(client_bits, 9)))
    }
    for text in data.draw(st.lists(message, min_size=1, max_size=5)):
        for sender, receiver, bits in ((server, client, server_bits), (client, server, max(client_bits, 9))):
            payload = sender.compress(text)
            reader = zlib.decompressobj(-bits) if configured.context == "shared" else strict[id(sender)]
            assert b"".join(read_slowly(reader, payload + TAIL)) == text
            size = data.draw(st.sampled_from([1, 7, 1000, 100_000])) if len(payload) < 5000 else 997
            assert pieces(receiver, payload, size) == text


def read_slowly(reader: zlib._Decompress, payload: bytes) -> list[bytes]:
    """In small steps, so that zlib notices a distance that is longer than its window."""
    out = []
    while True:
        out.append(reader.decompress(payload, 100))
        payload = reader.unconsumed_tail
        if not payload and not out[-1]:
            return out


@each_backend
@each_context
def test_an_empty_message_is_one_byte(library, configured):
    """RFC 7692 section 7.2.3.6."""
    sender = codec(configured, library)
    assert sender.compress(b"") == b"\x00"
    assert sender.compress(b"x") != b"\x00"
    assert [sender.compress(b"") for _ in range(2)] == [b"\x00"] * 2


def test_hello():
    assert codec(SHARED, library=BACKENDS[0]).compress(b"Hello") == bytes.fromhex("f2 48 cd c9 c9 07 00")
    sender = codec(TAKEOVER, library=BACKENDS[0])
    assert sender.compress(b"Hello") == bytes.fromhex("f2 48 cd c9 c9 07 00")
    assert sender.compress(b"Hello") == bytes.fromhex("f2 00 11 00 00")


@each_backend
def test_shared_context_looks_back_at_no_other_message(library):
    """One compressor serves many connections: what it writes must not depend on what it wrote before."""
    sender = codec(SHARED, library)
    for size in (10, 1000, 100_000):
        message = noise(size)
        payloads = [sender.compress(message) for _ in range(3)]
        for payload in payloads:
            assert len(payload) >= size
            assert zlib.decompressobj(-15).decompress(payload + TAIL) == message


@each_backend
def test_takeover_compresses_better(library):
    message = noise(1000)
    sender = codec(TAKEOVER, library)
    assert len(sender.compress(message)) > 900
    assert len(sender.compress(message)) < 100


def test_a_window_of_8_bits_looks_back_at_nothing():
    """zlib can't do 8; a client that is told to may not refuse, so it only encodes literals."""
    parameters = agreed(TAKEOVER, client_bits=8)
    client = PerMessageDeflate(TAKEOVER, parameters, Role.CLIENT)
    server = PerMessageDeflate(TAKEOVER, parameters, Role.SERVER)
    message = b"abcabc" * 300
    for _ in range(3):
        payload = client.compress(message)
        assert 300 < len(payload) < len(message)
        assert inflate(server, payload, MIB, True) == message


@each_context
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_takes_any_kind_of_bytes(configured, kind):
    sender, receiver = codec(configured), codec(configured)
    for message in (b"Hello" * 100, noise(200_000)):
        payload = sender.compress(kind(message))
        assert type(payload) is bytes
        out = inflate(receiver, kind(payload[:100]), MIB) + inflate(receiver, kind(payload[100:]), MIB, True)
        assert type(out) is bytes
        assert out == message


def test_threshold():
    sender = codec(DeflateSettings(threshold=10))
    assert not sender.worthwhile(b"x" * 9)
    assert sender.worthwhile(b"x" * 10)


@each_backend
def test_threads_share_a_compressor(library):
    sender = codec(SHARED, library)
    messages = [prose(20_000, seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        payloads = list(pool.map(sender.compress, messages))
    for message, payload in zip(messages, payloads, strict=True):
        assert inflate(codec(SHARED), payload, MIB, True) == message


@each_backend
def test_an_idle_connection_in_the_shared_context_costs_nothing(library):
    message, parameters = prose(2000), agreed(SHARED)
    payload = codec(SHARED, library).compress(message)
    count = 500
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        connections = []
        for _ in range(count):
            connection = PerMessageDeflate(SHARED, parameters, Role.SERVER, library)
            connection.compress(message)
            inflate(connection, payload[:50], MIB)
            inflate(connection, payload[50:], MIB, True)
            connections.append(connection)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len({id(connection.deflater) for connection in connections}) == 1
    assert (after - before) / count < 256


@each_backend
@each_context
def test_exchanges_messages_with_another_implementation(library, configured):
    parameters = agreed(configured, 12, 11)
    shared = configured.context == "shared"
    ours = PerMessageDeflate(configured, parameters, Role.SERVER, library)
    theirs = TheirPerMessageDeflate(shared, shared, 12, 11)
    for seed in range(20):
        message = prose(seed * seed * 40, seed)
        frame = theirs.encode(Frame(Opcode.TEXT, message))
        assert inflate(ours, bytes(frame.data), MIB, True) == message
        answer = theirs.decode(Frame(Opcode.TEXT, ours.compress(message), rsv1=True))
        assert bytes(answer.data) == message


# Back ends


@pytest.fixture
def _fresh_choice() -> Iterator[None]:
    deflate_backends.backend.cache_clear()
    yield
    deflate_backends.backend.cache_clear()


@pytest.mark.usefixtures("_fresh_choice")
def test_backend_is_chosen_by_the_environment(monkeypatch):
    for library in BACKENDS:
        monkeypatch.setenv("FLOWSERVE_ZLIB", library.name)
        deflate_backends.backend.cache_clear()
        assert deflate_backends.backend().name == library.name
        assert str(deflate_backends.backend()) == f"{library.name} {library.version}"
        assert library.version[0].isdigit()
    monkeypatch.delenv("FLOWSERVE_ZLIB")
    deflate_backends.backend.cache_clear()
    assert deflate_backends.backend().name == BACKENDS[-1].name
    assert deflate_backends.backend() is deflate_backends.backend()


@pytest.mark.usefixtures("_fresh_choice")
@pytest.mark.parametrize(
    ("name", "words"),
    [("fast", "write zlib, zlib-ng or isal"), ("isal", "not installed"), ("zlib-ng", "not installed")],
)
def test_a_backend_that_is_not_there_is_a_clear_error(monkeypatch, name, words):
    def missing(module: str) -> None:
        raise ImportError(module)

    monkeypatch.setattr(deflate_backends.importlib, "import_module", missing)
    monkeypatch.setenv("FLOWSERVE_ZLIB", name)
    with pytest.raises(ConfigError, match=words):
        deflate_backends.backend()
    monkeypatch.delenv("FLOWSERVE_ZLIB")
    assert deflate_backends.backend().name == "zlib"


@each_backend
def test_backends_can_do_what_is_asked_of_them(library):
    message = prose(50_000)
    for level in range(1, 10):
        for window_bits in range(9, 16):
            for mem_level in (1, 5, 8, 9):
                sender = deflate.Deflater(level, window_bits, mem_level, False, library)
                payload = sender.compress(message)
                assert len(payload) < 40_000
                assert b"".join(read_slowly(zlib.decompressobj(-window_bits), payload + TAIL)) == message
