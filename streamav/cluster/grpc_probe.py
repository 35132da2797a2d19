"""Asks whether a peer speaks gRPC, as the head of Ray does, without Ray and within a bounded time.

Ray itself tries for 20 s and more where something else answers, and prints its own lines meanwhile. gRPC is HTTP/2 (RFC 9113): frames of
length, type, flags, stream and content, with headers in HPACK (RFC 7541). Not used: `grpcio` and `h2` are no dependencies of Ray or of
this project, and one request needs three constant frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket

__all__ = ["speaks_grpc"]

_HEADERS, _SETTINGS = 1, 4
_END_STREAM, _END_HEADERS = 1, 4
_FRAME_HEAD = 9
_MOST_FRAMES = 20
"""Most frames that are read before the answer; a server sends two or three."""
_MOST_BYTES = 1 << 14
"""Longest frame that a peer may send us (RFC 9113, section 6.5.2: the default of SETTINGS_MAX_FRAME_SIZE)."""
_POST, _HTTP, _STATUS_200 = b"\x83", b"\x86", 0x88
"""Indexed fields of HPACK's static table (RFC 7541, appendix A): method, scheme, status."""
_SIZE_UPDATE, _SIZE_UPDATE_LONG = 0x20, 0x3F
"""A dynamic table size update, which may stand before the first field (RFC 7541, section 6.3); the long form goes on in further bytes."""


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + content


def _literal(name: bytes, value: bytes) -> bytes:
    """Return a field in the plainest form (RFC 7541, section 6.2.2)."""
    return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value


_FIELDS = (
    _POST
    + _HTTP
    + _literal(b":path", b"/ray.rpc.NodeInfoGcsService/GetClusterId")
    + _literal(b":authority", b"ray")
    + _literal(b"content-type", b"application/grpc")
    + _literal(b"te", b"trailers")
)
_REQUEST: Final = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + _frame(_SETTINGS, 0, 0, b"")
    + _frame(_HEADERS, _END_HEADERS, 1, _FIELDS)
    + _frame(0, _END_STREAM, 1, bytes(5))  # an empty message of gRPC
)
"""The first call that every client of Ray makes. A gRPC server without it answers with status 200, too, and an error of gRPC."""


def speaks_grpc(peer: socket.socket) -> bool:
    """Return whether a peer answers a call of gRPC; the time limit of the socket holds for each part of the answer."""
    try:
        peer.sendall(_REQUEST)
        for _ in range(_MOST_FRAMES):
            head = _read(peer, _FRAME_HEAD)
            size = int.from_bytes(head[:3], "big")
            if size > _MOST_BYTES:
                return False
            content = _read(peer, size)
            if head[3] == _HEADERS:
                return _is_200(content)
    except OSError:  # it says nothing within the time, or hangs up
        pass
    return False


def _is_200(fields: bytes) -> bool:
    place = 0
    while place < len(fields) and _SIZE_UPDATE <= fields[place] <= _SIZE_UPDATE_LONG:
        long = fields[place] == _SIZE_UPDATE_LONG
        place += 1
        while long and place < len(fields):
            long = fields[place] >= 0x80  # noqa: PLR2004 - the highest bit says that the number goes on
            place += 1
    return fields[place : place + 1] == bytes((_STATUS_200,))


def _read(peer: socket.socket, size: int) -> bytes:
    """Read exactly *size* bytes.

    Raises:
        OSError: when the peer hangs up before, or says nothing within the time.
    """
    found = b""
    while len(found) < size:
        more = peer.recv(size - len(found))
        if not more:
            raise ConnectionResetError
        found += more
    return found
