"""What the Redis backplane stores, as Lua scripts that run in Redis, and the format of messages there.

A topic has these keys, all with the hash tag `{topic}`. In a cluster, the prefix ends with the hash tag of one of a
fixed number of partitions, so that they are in the slot of that:

- `head`: a string of seven words. The first three are the place of the last message: epoch, offset and check. The
  others describe the log: the check of the message before its first one, its bytes, a time before which none of its
  messages was published (milliseconds since the epoch), and how long a message is kept (in milliseconds). It expires a
  day after that, and lives on while somebody is subscribed.
- `log`: a list of messages without holes, of which the last has the head's offset. Each is the time when it was
  published (8 bytes) and its record. Expires with the history's age.
- `from:PRODUCER`: the number of the last batch that a producer has published, and the answer to it. Expires after a
  minute, when nobody repeats the batch any more.
- `key:DIGEST`: the position of the message that was published with a key. Expires with the history's age, after a
  minute at the earliest.

And it has the channel `messages`, in a cluster a sharded one, on which a batch is one payload: epoch, offset of the
first message and time, and the records. A record is its own length (4 bytes), a random check (8), the kind (1), the
length of the origin (1), the origin, and the data. All numbers are big-endian. A kind of 128 or more means that the
message has a key.

Every script runs as a whole or not at all, and Redis replicates what it wrote as a whole.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from random import getrandbits
from typing import Any, NamedTuple

from flowserve.topics.message import Kind, Message, kind_of
from flowserve.topics.position import Place
from flowserve.topics.settings import MIN_KEY_AGE, Retention

_DAY = 86_400
_PRODUCER_AGE = 60
"""Seconds for which a batch can be repeated; nobody waits for its answer that long."""

_RECORD = struct.Struct(">I8sBB")
_PUSHED = struct.Struct(">16sQQ")
_TIME = struct.Struct(">Q")
_KEYED = 128

_PRELUDE = """
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local epoch, offset, check, start, size, first, age

local function load(random)
  local head = redis.call('GET', KEYS[1])
  if head then
    epoch, offset, check, start, size, first, age =
      string.match(head, '(%x+) (%d+) (%x+) (%x+) (%d+) (%d+) (%d+)')
    offset, size, first, age = tonumber(offset), tonumber(size), tonumber(first), tonumber(age)
    if offset then return true end
  end
  epoch, offset, check = string.format('%011x', ms) .. random, 0, '00000000'
  start, size, first, age = check, 0, ms, 0
  redis.call('DEL', KEYS[2])
  return false
end

local function save()
  local head = string.format('%s %d %s %s %d %d %d', epoch, offset, check, start, size, first, age)
  redis.call('SET', KEYS[1], head, 'PX', age + <DAY>)
end

local function trim(length, messages, bytes)
  local oldest = ms - age
  while length > 0 do
    if length <= messages and size <= bytes then
      if first > oldest then break end
      first = struct.unpack('>I8', redis.call('LRANGE', KEYS[2], 0, 0)[1])
      if first > oldest then break end
    end
    local entry = redis.call('LPOP', KEYS[2])
    length = length - 1
    size = size - #entry
    start = string.sub(entry, 13, 20)
    first = struct.unpack('>I8', entry)
  end
  return length
end
""".replace("<DAY>", str(_DAY * 1000))

_PUBLISH = """
-- KEYS: head, log, producer, one for each message with a key.
-- ARGV: channel, PUBLISH or SPUBLISH, number of the batch, 5 random digits, messages, bytes and age that are kept,
-- records.
local last = redis.call('GET', KEYS[3])
if last then
  local number, answer = string.match(last, '^(%d+) (.*)$')
  if tonumber(number) >= tonumber(ARGV[3]) then return answer end
end
load(ARGV[4])
local messages = tonumber(ARGV[5])
age = tonumber(ARGV[7])
local stamp = struct.pack('>I8', ms)
local entries, records, bytes, before, keyed = {}, {}, 0, check, 3
local answer = epoch .. ' ' .. (offset + 1)
for i = 8, #ARGV do
  local record, known = ARGV[i], false
  if string.byte(record, 13) >= 128 then
    keyed = keyed + 1
    known = redis.call('GET', KEYS[keyed])
    if not known then
      local position = string.format('%s.%x.%s', epoch, offset + #records + 1, string.sub(record, 5, 12))
      redis.call('SET', KEYS[keyed], position, 'PX', math.max(age, <KEY_AGE>))
    end
  end
  if known then
    answer = answer .. ' ' .. (i - 8) .. ' ' .. known
  else
    records[#records + 1] = record
    entries[#entries + 1] = stamp .. record
    bytes = bytes + 8 + #record
    check = string.sub(record, 5, 12)
  end
end
local payload
if #records > 0 then
  payload = epoch .. struct.pack('>I8I8', offset + 1, ms) .. table.concat(records)
  offset = offset + #records
  if messages > 0 then
    local length = redis.call('RPUSH', KEYS[2], unpack(entries))
    if length == #entries then start, size, first = before, 0, ms end
    size = size + bytes
    if trim(length, messages, tonumber(ARGV[6])) > 0 then redis.call('PEXPIRE', KEYS[2], age) end
  else
    redis.call('DEL', KEYS[2])
  end
  save()
end
redis.call('SET', KEYS[3], ARGV[3] .. ' ' .. answer, 'PX', <PRODUCER_AGE>)
-- last: a write may be refused (READONLY, OOM, NOREPLICAS), but nothing takes back what was passed on
if payload then redis.call(ARGV[2], ARGV[1], payload) end
return answer
""".replace("<KEY_AGE>", str(MIN_KEY_AGE * 1000)).replace("<PRODUCER_AGE>", str(_PRODUCER_AGE * 1000))

_HEAD = """
-- KEYS: head, log. ARGV: 5 random digits. Returns the topic's head.
if load(ARGV[1]) then redis.call('PEXPIRE', KEYS[1], age + <DAY>) else save() end
return {epoch, offset, check}
""".replace("<DAY>", str(_DAY * 1000))

_READ = """
-- KEYS: head, log. ARGV: 5 random digits; epoch, offset and check of a place.
-- Returns the topic's head, whether no message after the place is missing, offset and check of the message before the
-- first that follows, and those. Never returns a message that a reader at the place may have had: in a log that was
-- rolled back since, those up to its offset; all of an epoch that is older than that of the place.
load(ARGV[1])
local length = redis.call('LLEN', KEYS[2])
if length > 0 then
  length = trim(length, length, size)
else
  start, size = check, 0
end
save()
local begin, after, complete = offset - length, tonumber(ARGV[3]), 0
local function check_of(at)
  if at == offset then return check end
  if at == begin then return start end
  return string.sub(redis.call('LRANGE', KEYS[2], at - begin - 1, at - begin - 1)[1], 13, 20)
end
local from = begin
if ARGV[2] == '*' then
  if begin == 0 then complete = 1 end
elseif ARGV[2] == epoch then
  if after >= begin and after <= offset and check_of(after) == ARGV[4] then complete = 1 end
  from = math.min(math.max(begin, after), offset)
elseif ARGV[2] == '' or ARGV[2] > epoch then
  from = offset
end
local answer = {epoch, offset, check, complete, from, check_of(from)}
if from < offset then answer[7] = redis.call('LRANGE', KEYS[2], from - offset, -1) end
return answer
"""

SCRIPTS = tuple((_PRELUDE + text).encode() for text in (_PUBLISH, _HEAD, _READ))
_PUBLISH_SHA, _HEAD_SHA, _READ_SHA = (hashlib.sha1(text).hexdigest().encode() for text in SCRIPTS)

REFRESH = _DAY / 4
"""Seconds after which a head that is in use has to be asked for again, so that it does not expire."""

PROBE = "%"
"""The escaped name of a topic that nobody can have."""


MALFORMED = (struct.error, ValueError, IndexError)
"""What decoding raises for what another program has written."""


class Keys(NamedTuple):
    """The keys of a topic, and its channel."""

    head: bytes
    log: bytes
    producer: bytes
    channel: bytes
    base: bytes

    def of_key(self, key: str) -> bytes:
        """Return where the message of a key is remembered."""
        return b"%bkey:%b" % (self.base, hashlib.blake2b(key.encode(), digest_size=16).hexdigest().encode())


def escape(topic: str) -> str:
    """Return a topic's name as it stands in a hash tag, which ends at the first brace."""
    return topic.replace("%", "%25").replace("}", "%7D")


def unescape(escaped: str) -> str:
    """Return the topic's name of one that `escape()` has returned."""
    return escaped.replace("%7D", "}").replace("%25", "%")


def keys_of(prefix: str, escaped: str, producer: str) -> Keys:
    """Return the keys of a topic, whose name is escaped."""
    base = f"{prefix}{{{escaped}}}:".encode(errors="surrogatepass")
    return Keys(base + b"head", base + b"log", b"%bfrom:%b" % (base, producer.encode()), base + b"messages", base)


def encode_record(data: bytes, kind: Kind, keyed: bool, origin: str, check: str) -> bytes:
    """Return a record. `check` has 8 hexadecimal digits."""
    sender = origin.encode()[:255]
    size = _RECORD.size + len(sender) + len(data)
    return _RECORD.pack(size, check.encode(), kind | _KEYED if keyed else kind, len(sender)) + sender + data


def decode_pushed(topic: str, pushed: bytes) -> Iterator[Message]:
    """Yield the messages of what came on a topic's channel."""
    name, offset, time = _PUSHED.unpack_from(pushed)
    epoch, published_at, start, end = name.decode(), time / 1000, _PUSHED.size, len(pushed)
    while start < end:
        size, check, kind, sender = _RECORD.unpack_from(pushed, start)
        data = start + _RECORD.size + sender
        if data > start + size or start + size > end:
            raise ValueError("it is cut off")
        origin = pushed[start + _RECORD.size : data].decode()
        place = Place(epoch, offset, check.decode())
        start += size
        yield Message(topic, pushed[data:start], kind_of(kind & 127), place, origin, published_at)
        offset += 1


def decode_log(topic: str, epoch: str, offset: int, entries: list[bytes]) -> Iterator[Message]:
    """Yield the messages of entries of a log, of which the first has `offset`."""
    for entry in entries:
        (time,) = _TIME.unpack_from(entry)
        _, check, kind, sender = _RECORD.unpack_from(entry, _TIME.size)
        data = _TIME.size + _RECORD.size + sender
        origin = entry[_TIME.size + _RECORD.size : data].decode()
        place = Place(epoch, offset, check.decode())
        yield Message(topic, entry[data:], kind_of(kind & 127), place, origin, time / 1000)
        offset += 1


class PublishCommand:
    """Makes the commands that publish the batches of one topic, as they stand on the wire. What all have in common is
    made once: to have a client pack each of them takes a tenth of the time that it takes to publish."""

    __slots__ = ("_begin", "_channel", "_limits", "_retention", "keys")

    def __init__(self, keys: Keys, sharded: bool = False) -> None:
        """With `sharded` the channel is one of a shard of a cluster."""
        self.keys = keys
        self._begin = self._begin_with(())
        self._channel = _strings(keys.channel, b"SPUBLISH" if sharded else b"PUBLISH")
        self._retention: Retention | None = None  # of the last batch,
        self._limits = b""  # and what the command says of it

    def __call__(self, number: int, retention: Retention, records: Sequence[bytes], keyed: Sequence[bytes]) -> bytes:
        """Return the command for a batch; `keyed` are where the keys of messages that have one are stored."""
        if retention is not self._retention:
            messages, size, age = self._retention = retention
            self._limits = _strings(b"%d" % messages, b"%d" % size, b"%d" % max(1, int(age * 1000)))
        shown = b"%d" % number
        parts = [
            b"*%d\r\n" % (_WORDS + len(keyed) + len(records)),
            self._begin_with(keyed) if keyed else self._begin,
            self._channel,
            b"$%d\r\n%b\r\n$5\r\n%b\r\n" % (len(shown), shown, _random()),
            self._limits,
        ]
        for record in records:
            parts += (b"$%d\r\n" % len(record), record, b"\r\n")
        return b"".join(parts)

    def _begin_with(self, keyed: Sequence[bytes]) -> bytes:
        keys = self.keys
        return _strings(
            *(b"EVALSHA", _PUBLISH_SHA, b"%d" % (3 + len(keyed))), *(keys.head, keys.log, keys.producer), *keyed
        )


_WORDS = 13
"""Of the command that publishes nothing."""


def _strings(*words: bytes) -> bytes:
    """Return words as they stand in a command."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


def head_command(keys: Keys) -> tuple[Any, ...]:
    """Return the command for the head of a topic."""
    return b"EVALSHA", _HEAD_SHA, 2, keys.head, keys.log, _random()


def read_command(keys: Keys, after: Place) -> tuple[Any, ...]:
    """Return the command that reads the log of a topic."""
    return b"EVALSHA", _READ_SHA, 2, keys.head, keys.log, _random(), after.epoch, after.offset, after.check


def _random() -> bytes:
    return b"%05x" % getrandbits(20)
