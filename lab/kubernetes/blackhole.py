"""Sources a listener never answers: their handshakes are dropped by the kernel, so that connecting times out.

A filter on the listening socket sees each SYN with its real source, which needs no privilege; nothing is accepted,
sent or refused, as behind a network plugin that drops. Connections that are open already stall elsewhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import logging
import socket
import struct
from asyncio.trsock import TransportSocket
from collections.abc import Iterable
from typing import Final

from lab.kubernetes.policy import Admission, Block

log = logging.getLogger(__name__)

_ATTACH: Final = 26
_DETACH: Final = 27
_SOURCE: Final = (-0x100000 + 12) & 0xFFFFFFFF
"""Where a socket filter finds the source address: at the network header (SKF_NET_OFF), 12 bytes in."""
_LOAD, _AND, _EQUAL, _JUMP, _RETURN = 0x20, 0x54, 0x15, 0x05, 0x06
_WHOLE_PACKET: Final = 0x40000


def program(admission: Admission) -> list[tuple[int, int, int, int]]:
    """Instructions of a classic socket filter that passes packets from the admitted addresses and drops the rest."""
    code: list[tuple[int, int, int, int]] = []
    for block in admission.blocks:
        code += _block(block)
    return [*code, (_RETURN, 0, 0, 0)]


def _block(block: Block) -> list[tuple[int, int, int, int]]:
    inside: list[tuple[int, int, int, int]] = []
    after = 4 * len(block.excepted) + 1
    for position, excepted in enumerate(block.excepted):
        inside += [*_in(excepted), (_JUMP, 0, 0, after - 4 * (position + 1))]
    return [
        *_in(block.network),
        (_JUMP, 0, 0, 1),
        (_JUMP, 0, 0, len(inside) + 1),
        *inside,
        (_RETURN, 0, 0, _WHOLE_PACKET),
    ]


def _in(network: ipaddress.IPv4Network) -> list[tuple[int, int, int, int]]:
    """Goes on behind itself where the source lies in the network, one instruction further where not."""
    return [(_LOAD, 0, 0, _SOURCE), (_AND, 0, 0, int(network.netmask)), (_EQUAL, 0, 1, int(network.network_address))]


def silence(sockets: Iterable[TransportSocket | socket.socket], admission: Admission) -> bool:
    """Answer only the admitted addresses from now on; False where the kernel does not take the filter."""
    try:
        for sock in sockets:
            if admission.everyone:
                with contextlib.suppress(FileNotFoundError):  # it has none
                    sock.setsockopt(socket.SOL_SOCKET, _DETACH, 0)
            else:
                code = program(admission)
                packed = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in code))
                sock.setsockopt(socket.SOL_SOCKET, _ATTACH, struct.pack("HL", len(code), ctypes.addressof(packed)))
    except OSError as error:
        log.warning("no filter on the listener (%s): cut sources are accepted and get no answer", error)
        return False
    return True
