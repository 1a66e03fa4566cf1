"""Numbers over steps in the format that TensorBoard reads, without TensorBoard (60 MB of packages for a file of records).

A file holds records: length, checksum of the length, bytes, checksum of the bytes. The bytes are an `Event` of TensorFlow
in protocol buffers' wire format, of which only a few fields are needed: wall time 1, step 2, version 3, summary 5 (of
values 1: tag 1, number 2), session 7 (status 1). Records are added while a run goes on, so this file alone grows in
place: a reader stops at a record that is not whole.
"""

from __future__ import annotations

import os
import struct
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Status of a session that begins: what was told of later steps is void.
_START = 1


class EventFile:
    """A new file of events in a folder.

    Args:
        folder: `tensorboard --logdir` takes it; made when missing.
        step: the run begins there; earlier files' events from this step on are void.
    """

    def __init__(self, folder: str | Path, step: int = 0) -> None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a folder in the order of their names.
        self.path = folder / f"events.out.tfevents.{time.time_ns() // 1000:017d}.{os.getpid()}.medseg"
        self._add(_text(3, "brain.Event:2"))
        self._add(_number(2, step) + _bytes(7, _number(1, _START)))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Tell numbers of a step, such as {"loss/train": 0.3}."""
        found = b"".join(_bytes(1, _text(1, tag) + b"\x15" + struct.pack("<f", value)) for tag, value in values.items())
        self._add(_number(2, step) + _bytes(5, found))

    def _add(self, fields: bytes) -> None:
        event = b"\x09" + struct.pack("<d", time.time()) + fields
        length = struct.pack("<Q", len(event))
        with self.path.open("ab") as file:
            file.write(length + _checksum(length) + event + _checksum(event))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _checksum(data: bytes) -> bytes:
    """CRC-32C, turned and shifted as TensorFlow does it so that a checksum of a checksum is none."""
    crc, table = 0xFFFFFFFF, _table()
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


@cache
def _table() -> tuple[int, ...]:
    """CRC-32C (Castagnoli) of every byte."""
    out = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        out.append(crc)
    return tuple(out)
