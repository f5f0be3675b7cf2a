# cython: language_level=3, annotation_typing=False, binding=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""Sending one message to many sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowserve.session.session import Session

if TYPE_CHECKING:
    from flowserve.session.shared_message import SharedMessage


def fan_out(sessions: list[Session | None], message: SharedMessage) -> list[int]:
    """Queue a message in all sessions where that is simple, to be written at the end of the event loop iteration.

    Return the indices of the others: those that are None, clients, slow, closing, or compress for themselves.
    """
    text, size = message.text, message.size
    frame = None  # that of sessions without permessage-deflate
    deflater = compressed = None  # a deflater, and the frame for its sessions
    others = []
    for index in range(len(sessions)):
        session = sessions[index]
        if session is None or not session.takes_frames():
            others.append(index)
            continue
        codec = session.connection.deflate
        if codec is None:
            if frame is None:
                frame = message.plain_frame()
            session.send_frame(frame, text, size)
        elif codec.deflater is deflater:
            session.send_frame(compressed, text, size)  # type: ignore[arg-type]
        elif codec.deflater.takeover:
            others.append(index)
        else:
            deflater = codec.deflater
            compressed = message.compressed_frame(deflater) if message.is_compressed(codec) else message.plain_frame()
            session.send_frame(compressed, text, size)
    return others
