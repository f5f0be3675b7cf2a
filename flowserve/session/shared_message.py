"""One message for many sessions: encoded once, and compressed once for all that agreed on the same parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowserve.websocket.constants import Opcode
from flowserve.websocket.frames import encode_frame

if TYPE_CHECKING:
    from flowserve.session.session import Session
    from flowserve.websocket.deflate import Deflater

_TEXT, _BINARY = int(Opcode.TEXT), int(Opcode.BINARY)


class SharedMessage:
    """A message with its encoded and compressed forms; each is made when it is first needed.

    Clients mask each frame with a key of its own (RFC 6455 section 5.3), and with context takeover each session
    compresses for itself; for those only what is common is shared.
    """

    __slots__ = (
        "_compress",
        "_compressed_frames",
        "_frame",
        "_message",
        "_opcode",
        "_payloads",
        "data",
        "size",
        "text",
    )

    def __init__(self, data: bytes, text: bool, compress: bool | None = None) -> None:
        """`data` is the payload, in UTF-8 if it is `text`; `compress` as for Connection."""
        self.data = data
        self.text = text
        self.size = len(data)
        self._opcode = _TEXT if text else _BINARY
        self._compress = compress
        self._frame: bytes | None = None  # uncompressed and unmasked
        self._message: str | bytes | None = None  # as Session.send() takes it
        self._compressed_frames: dict[Deflater, bytes] = {}
        self._payloads: dict[Deflater, bytes] = {}

    @property
    def message(self) -> str | bytes:
        """The message as `Session.send()` takes it."""
        if self._message is None:
            self._message = self.data.decode() if self.text else self.data
        return self._message

    def plain_frame(self) -> bytes:
        """Return the unmasked frame, not compressed."""
        if self._frame is None:
            self._frame = encode_frame(self._opcode, self.data)
        return self._frame

    def is_compressed(self, codec: Any) -> bool:
        """Whether a connection with this codec of permessage-deflate compresses it."""
        return bool(codec.should_compress(self.data) if self._compress is None else self._compress)

    def compressed_frame(self, deflater: Deflater) -> bytes:
        """Return the unmasked frame, compressed by a deflater without context takeover."""
        frame = self._compressed_frames.get(deflater)
        if frame is None:
            frame = encode_frame(self._opcode, self.compressed_payload(deflater), b"", True)
            self._compressed_frames[deflater] = frame
        return frame

    def compressed_payload(self, deflater: Deflater) -> bytes:
        """Return the payload, compressed by a deflater without context takeover."""
        payload = self._payloads.get(deflater)
        if payload is None:
            payload = self._payloads[deflater] = deflater.compress(self.data)
        return payload

    def send_to(self, session: Session) -> None:
        """Send it, at the end of the event loop iteration. The session must not be `busy` or `fragmenting`. Raises
        ClientDisconnected if the session has ended, or ends now because the peer reads too slowly."""
        connection = session.connection
        codec: Any = connection.deflate
        if codec is None or not self.is_compressed(codec):
            if connection.is_client:
                session.send(self.message, False)
            else:
                session.send_frame(self.plain_frame(), self.text, self.size)
        elif codec.deflater.takeover:
            session.send(self.message, True)
        elif not connection.is_client:
            session.send_frame(self.compressed_frame(codec.deflater), self.text, self.size)
        elif not session.overflows():
            session.send_compressed(self.text, self.compressed_payload(codec.deflater), self.size)
