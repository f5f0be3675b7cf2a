"""Clients of WebSockets, in literal bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from compliance.chaos.application import SENDS
from compliance.chaos.configurations import MAX_SIZE
from compliance.chaos.messages import Corrupt, Message, check, make
from compliance.chaos.peers import Peer, closing, end, reset
from compliance.chaos.wire import BINARY, CLOSE, PING, TEXT, Closed, Refused, Wire, encode, encode_close, handshake

WINDOW = 256 * 1024
"""Bytes that a client leaves unread at the most; well below the mark of slow consumers."""


async def echo(peer: Peer) -> None:
    """Messages there and back, then one of many ends."""
    way = peer.rng.choice(list(SENDS))
    async with peer.websocket("echo", way=way) as wire:
        number = 0
        for _ in range(peer.rng.randint(0, 6)):
            number += await exchange(peer, wire, number)
        peer.record.sent = peer.record.received = peer.record.messages = number
        ending = peer.rng.choice(ENDINGS)
        peer.fault(ending.__name__)
        await ending(peer, wire)


async def exchange(peer: Peer, wire: Wire, number: int) -> int:
    """Send some messages, while their echoes are read. Returns how many."""
    messages: list[Message] = []
    while len(messages) < peer.rng.randint(1, 16) and sum(map(len, messages)) < WINDOW // 4:
        messages.append(make(peer.identity, number + len(messages), peer.rng))
    sending = asyncio.ensure_future(send_all(wire, messages))
    try:
        for message in messages:
            echoed = await wire.receive()
            if echoed != message:
                peer.violate(f"wanted {head_of(message)}, got {head_of(echoed)}")
            if peer.rng.random() < 0.02:
                await asyncio.sleep(0.02)
        await sending
    except Closed as closed:
        peer.violate(f"closed in the middle of an exchange: {closed.code} {closed.reason}")
        raise
    finally:
        sending.cancel()
    return len(messages)


async def send_all(wire: Wire, messages: list[Message]) -> None:
    for message in messages:
        await wire.send(message)


def head_of(message: Message) -> str:
    return f"{len(message)} of {message[:40]!r}"


async def faulty(peer: Peer) -> None:
    """An application that ends after some messages, by raising or otherwise, while more are on their way."""
    rng = peer.rng
    fault = rng.choice(("raise", "cancel", "exit", "group", "task", "return", "close"))
    after, code = rng.randint(0, 12), rng.choice((1000, 1001, 1008, 3000, 4999))
    peer.fault(f"application: {fault}")
    async with peer.websocket("echo", way=rng.choice(list(SENDS)), fault=fault, after=after, code=code) as wire:
        sending = asyncio.ensure_future(send_until_closed(peer, wire, after + rng.randint(0, 5)))
        got = 0
        try:
            while True:
                key, number = check(await wire.receive())
                peer.expect((key, number) == (peer.identity, got), f"wanted {got}, got {key} {number}")
                got += 1
        except Closed as closed:
            wanted = {"return": 1000, "close": code}.get(fault, 1011)
            peer.expect(closed.code == wanted, f"closed with {closed.code} {closed.reason}, not with {wanted}")
        except Corrupt as corrupt:
            peer.violate(str(corrupt))
        finally:
            sending.cancel()
            await asyncio.wait({sending})
        peer.expect(got == after, f"{got} echoes before the end, not {after}")
        peer.record.codes, peer.record.received, peer.record.messages = {wanted}, after, got
        if rng.random() < 0.8 and not wire.trickle:
            with contextlib.suppress(ConnectionError):
                await wire.write(encode_close(wanted, "", rng))


async def send_until_closed(peer: Peer, wire: Wire, count: int) -> None:
    with contextlib.suppress(ConnectionError):
        for number in range(count):
            await wire.send(make(peer.identity, number, peer.rng, peer.rng.randint(0, 3000)))


async def flood(peer: Peer) -> None:
    """An application that sends from many tasks, to a client that reads, reads late or slowly, or not at all."""
    rng = peer.rng
    reading = rng.choices(("prompt", "slow", "late", "never"), (4, 2, 2, 2))[0]
    small = reading == "prompt"
    tasks, count = rng.randint(1, 8), rng.randint(1, 60)
    size = rng.choice((20, 1000, 8000)) if small else rng.choice((8000, 60_000))
    peer.fault(f"reads: {reading}")
    async with peer.websocket("flood", 0 if small else 8192, tasks=tasks, count=count, size=size) as wire:
        if reading == "never":
            return await leave_unread(peer, wire)
        if reading == "late":
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(rng.random() * 1.0)
            with contextlib.suppress(RuntimeError):
                wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        seen, closed = await drain(peer, wire, 0.001 if reading == "slow" else 0)
        with contextlib.suppress(ConnectionError):
            await wire.write(encode_close(closed.code, "", rng))
    judge(peer, seen, closed, tasks, count)
    return None


async def leave_unread(peer: Peer, wire: Wire) -> None:
    """A client that never reads: it vanishes, or stays until the server has had enough."""
    await asyncio.sleep(peer.rng.random() * 0.5)
    peer.record.codes = {1000, 1006, 1011, 1013}
    if peer.site.silence and peer.rng.random() < 0.3:
        peer.fault("silent")
        peer.hold(wire.writer)
    else:
        peer.fault("reset")
        reset(wire.writer)


async def drain(peer: Peer, wire: Wire, pause: float) -> tuple[dict[str, list[int]], Closed]:
    """Everything that comes: the numbers of each sender, and the end."""
    seen: dict[str, list[int]] = {}
    while True:
        try:
            key, number = check(await wire.receive())
            seen.setdefault(key, []).append(number)
        except Closed as closed:
            return seen, closed
        except Corrupt as corrupt:
            peer.violate(str(corrupt))
        if pause:
            await asyncio.sleep(pause)


def judge(peer: Peer, seen: dict[str, list[int]], closed: Closed, tasks: int, count: int) -> None:
    """All messages in each sender's order; what is missing has to be dropped or cut off as the policy says."""
    record, policy = peer.record, peer.site.policy
    got = sum(map(len, seen.values()))
    record.messages = got
    for key, numbers in seen.items():
        if policy == "drop":
            peer.expect(numbers == sorted(set(numbers)), f"{key} out of order: {numbers}")
        else:
            peer.expect(numbers == list(range(len(numbers))), f"{key} out of order: {numbers}")
    if policy == "close" and closed.code in (1013, 1006):  # 1006: it did not get through within the close timeout
        record.codes = {1013}
        return
    record.codes = {1000}
    peer.expect(closed.code == 1000, f"closed with {closed.code} {closed.reason}")
    record.received, record.missing = got, tasks * count - got
    peer.expect(not record.missing or policy == "drop", f"{record.missing} messages are missing")


async def interrupted(peer: Peer) -> None:
    """An application that closes or raises while many of its tasks send: of each task an unbroken beginning."""
    rng, fault = peer.rng, peer.rng.choice(("close", "raise"))
    options = {"tasks": rng.randint(1, 8), "count": rng.randint(1, 40), "size": rng.choice((20, 1000))}
    peer.fault(f"application: {fault}")
    async with peer.websocket("interrupted", fault=fault, milliseconds=rng.randint(0, 60), **options) as wire:
        seen, closed = await drain(peer, wire, 0)
        with contextlib.suppress(ConnectionError):
            await wire.write(encode_close(closed.code, "", rng))
    wanted = 4000 if fault == "close" else 1011
    peer.expect(closed.code == wanted, f"closed with {closed.code} {closed.reason}, not with {wanted}")
    for key, numbers in seen.items():
        peer.expect(numbers == list(range(len(numbers))), f"{key} out of order: {numbers}")
    peer.record.codes, peer.record.messages = {wanted}, sum(map(len, seen.values()))
    peer.record.received = peer.record.messages


async def hub(peer: Peer) -> None:
    """One of those that get what anybody sends: of each sender everything, from some message on."""
    seen: dict[str, int] = {}
    async with peer.websocket("hub") as wire:
        count = peer.rng.randint(0, 20)
        sending = asyncio.ensure_future(publish(peer, wire, count))
        try:
            while seen.get(peer.identity, -1) + 1 < count:
                await hear(peer, wire, seen)
            for _ in range(peer.rng.randint(0, 3)):
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(hear(peer, wire, seen), 0.05)
            await sending
        except Closed as closed:
            peer.violate(f"closed with {closed.code} {closed.reason}")
        finally:
            sending.cancel()
        ending = peer.rng.choice((close, fin, reset_now, truncate))
        peer.fault(ending.__name__)
        await ending(peer, wire)


async def publish(peer: Peer, wire: Wire, count: int) -> None:
    for number in range(count):
        await wire.send(make(peer.identity, number, peer.rng, peer.rng.randint(0, 2000)))
        await asyncio.sleep(peer.rng.random() * 0.01)


async def hear(peer: Peer, wire: Wire, seen: dict[str, int]) -> None:
    try:
        key, number = check(await wire.receive())
    except Corrupt as corrupt:
        return peer.violate(str(corrupt))
    first = 0 if key == peer.identity else number
    wanted = seen.get(key, first - 1) + 1
    peer.expect(number == wanted, f"of {key} {number} came, not {wanted}")
    seen[key] = number
    peer.record.messages += 1
    return None


async def deaf(peer: Peer) -> None:
    """An application that does not receive what the client sends, and returns."""
    async with peer.websocket("deaf", milliseconds=peer.rng.randint(0, 300)) as wire:
        sending = asyncio.ensure_future(send_until_closed(peer, wire, peer.rng.randint(0, 60)))
        closed = await closing(wire)
        sending.cancel()
        await asyncio.wait({sending})
        peer.expect(closed.code == 1000, f"closed with {closed.code} {closed.reason}")
        peer.record.codes = {1000}


async def denied(peer: Peer) -> None:
    """A WebSocket that the application does not accept."""
    how = peer.rng.choice(("close", "response", "return", "raise", "exit", "group", "cancel"))
    status = {"close": 403, "response": 401}.get(how, 500)
    peer.fault(f"application: {how}")
    peer.record.requests[peer.identity] = {status}
    try:
        async with peer.websocket("deny", how=how):
            peer.violate("accepted")
    except Refused as refused:
        peer.expect(refused.status == status, f"{refused.status}, not {status}")
        if how == "response":
            peer.expect(refused.body == peer.identity.encode(), f"the body is {refused.body!r}")


async def half_opened(peer: Peer) -> None:
    """A handshake that is cut at some byte, by a reset or an end, or never goes on; or a client that does not wait."""
    async with peer.streams() as (_, writer):
        data = handshake(peer.target("echo"), b"dGhlIHNhbXBsZSBub25jZQ==", "permessage-deflate")
        place = peer.rng.choice((peer.rng.randrange(len(data)), len(data), len(data)))
        writer.write(data[:place])
        if peer.rng.random() < 0.5:
            await asyncio.sleep(peer.rng.random() * 0.01)
        if place == len(data):
            peer.record.codes = {1006}
            peer.record.requests[peer.identity] = {499}
        leave = peer.rng.choice(("reset", "fin", "silent"))
        peer.fault(f"{leave} at {place} of {len(data)}")
        if leave == "silent" and peer.site.silence and place < len(data):
            peer.hold(writer)
        elif leave == "reset":
            reset(writer)


# How an echo ends, when all has come back


async def close(peer: Peer, wire: Wire) -> None:
    code = peer.rng.choice((1000, 1001, 1008, 1011, 3000, 4000, 4999))
    peer.record.codes = {code}
    await wire.write(encode_close(code, "żegnaj"[: peer.rng.randrange(7)], peer.rng))
    await expect_close(peer, wire, {code})


async def close_without_code(peer: Peer, wire: Wire) -> None:
    peer.record.codes = {1005}
    await wire.write(encode_close(None, "", peer.rng))
    await expect_close(peer, wire, {1005})


async def expect_close(peer: Peer, wire: Wire, codes: set[int]) -> None:
    """The server's close frame, then the end of the connection, without anything between them."""
    closed = await (closing(wire) if peer.record.behaviour == "hub" else closing_after(peer, wire))
    peer.expect(closed.code in codes, f"closed with {closed.code} {closed.reason}, not with {codes}")
    with contextlib.suppress(ConnectionError):
        peer.expect(await wire.reader.read(100) == b"", "something behind the close frame")


async def closing_after(peer: Peer, wire: Wire) -> Closed:
    try:
        message = await wire.receive()
    except Closed as closed:
        return closed
    peer.violate(f"unasked: {head_of(message)}")
    return await closing(wire)


async def fin(peer: Peer, wire: Wire) -> None:
    peer.record.codes = {1006}
    await end(wire.writer)


async def reset_now(peer: Peer, wire: Wire) -> None:
    peer.record.codes = {1006}
    reset(wire.writer)


async def truncate(peer: Peer, wire: Wire) -> None:
    """A frame that is cut at some byte."""
    peer.record.codes = {1006}
    frame = encode(BINARY, peer.rng.randbytes(300), peer.rng)
    await wire.write(frame[: peer.rng.randrange(1, len(frame))])
    if peer.rng.random() < 0.5:
        await asyncio.sleep(peer.rng.random() * 0.01)
    if peer.rng.random() < 0.5:
        reset(wire.writer)


async def fall_silent(peer: Peer, wire: Wire) -> None:
    """Answer nothing any more, pings neither; perhaps in the middle of a frame."""
    if not peer.site.silence:
        return await close(peer, wire)
    peer.record.codes = {1011}
    if peer.rng.random() < 0.5:
        frame = encode(BINARY, peer.rng.randbytes(300), peer.rng)
        await wire.write(frame[: peer.rng.randrange(1, len(frame))])
    peer.hold(wire.writer)
    return None


async def break_protocol(peer: Peer, wire: Wire) -> None:
    """A frame that RFC 6455 does not allow."""
    rng = peer.rng
    frames = (
        encode(3, b"reserved opcode", rng),
        encode(11, b"", rng),
        encode(0, b"nothing to continue", rng),
        encode(PING, b"x" * 126, rng),
        encode(PING, b"in pieces", rng, fin=False),
        b"\x81\x05naked",
        encode(CLOSE, b"\x03", rng),
        encode(CLOSE, b"\x03\xed", rng),
        b"\xa1" + encode(TEXT, b"a reserved bit", rng)[1:],
    )
    await misbehave(peer, wire, rng.choice(frames), 1002)


async def send_no_text(peer: Peer, wire: Wire) -> None:
    payload = peer.rng.choice((b"\xff", b"abc\xc3(", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"))
    await misbehave(peer, wire, encode(TEXT, payload, peer.rng), 1007)


async def misbehave(peer: Peer, wire: Wire, data: bytes, code: int) -> None:
    """Send what the server answers with `code`; it need not take all of it."""
    peer.record.codes = {code}
    with contextlib.suppress(ConnectionError):
        await wire.write(data)
    await expect_close(peer, wire, {code})


async def send_too_much(peer: Peer, wire: Wire) -> None:
    """A message above the limit: in one frame, in several, or by a bomb of compression."""
    if wire.deflate is not None and peer.rng.random() < 0.5:
        payload = wire.deflate.compress(bytes(2 * MAX_SIZE))
        frames = encode(BINARY, payload, peer.rng, compressed=True)
    elif peer.rng.random() < 0.5:
        frames = encode(BINARY, bytes(MAX_SIZE + 1), peer.rng)[:100]
    else:
        frames = encode(BINARY, bytes(MAX_SIZE), peer.rng, fin=False) + encode(0, b"x", peer.rng)
    peer.record.codes = {1009}
    with contextlib.suppress(ConnectionError):
        await wire.write(frames)
    # TLS has no half-close: what still comes in when the server ends it may cost the client the close frame.
    await expect_close(peer, wire, {1009, 1006} if peer.site.tls else {1009})


ENDINGS: tuple[Callable[[Peer, Wire], Awaitable[None]], ...] = (
    close,
    close,
    close_without_code,
    fin,
    reset_now,
    truncate,
    fall_silent,
    break_protocol,
    send_no_text,
    send_too_much,
)
