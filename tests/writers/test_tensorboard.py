"""Events for TensorBoard, read again by a parser of their own, and by TensorBoard."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.writers import tensorboard
from medseg.writers.tensorboard import EventFile


def crc32c(data: bytes) -> int:
    """Bit by bit, as the polynomial says."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 * (crc & 1))
    return crc ^ 0xFFFFFFFF


def unmasked(checksum: bytes) -> int:
    turned = (struct.unpack("<I", checksum)[0] - 0xA282EAD8) & 0xFFFFFFFF
    return (turned >> 17 | turned << 15) & 0xFFFFFFFF


def fields(data: bytes) -> dict[int, list]:
    """A message of protocol buffers: number of the field -> its values."""
    out: dict[int, list] = {}
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            value = varint()
        else:
            n = {1: 8, 5: 4}.get(kind) or varint()
            value = data[at : at + n]
            at += n
        out.setdefault(key >> 3, []).append(value)
    return out


def events(path) -> list[dict[int, list]]:
    data, found = path.read_bytes(), []
    while data:
        length = struct.unpack("<Q", data[:8])[0]
        body = data[12 : 12 + length]
        assert unmasked(data[8:12]) == crc32c(data[:8])
        assert unmasked(data[12 + length : 16 + length]) == crc32c(body)
        found.append(fields(body))
        data = data[16 + length :]
    return found


def test_known_checksum():
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720's check value
    assert unmasked(tensorboard._checksum(b"123456789")) == 0xE3069283


@settings(max_examples=25, deadline=None)
@given(
    told=st.lists(
        st.tuples(
            st.integers(0, 2**40),
            st.dictionaries(st.text(min_size=1, max_size=40), st.floats(width=32, allow_nan=False), max_size=4),
        ),
        max_size=5,
    )
)
def test_what_is_told_is_in_the_file(told, tmp_path_factory):
    file = EventFile(tmp_path_factory.mktemp("events"), step=7)
    for step, values in told:
        file.add(step, values)
    version, session, *found = events(file.path)
    assert version[3] == [b"brain.Event:2"]
    assert (session[2], fields(session[7][0])) == ([7], {1: [1]})
    for (step, values), event in zip(told, found, strict=True):
        assert event[2] == [step]
        read = [fields(one) for one in fields(event[5][0]).get(1, [])]
        assert {one[1][0].decode(): struct.unpack("<f", one[2][0])[0] for one in read} == values


def test_tensorboard_reads_them_and_drops_what_a_resumed_run_tells_again(tmp_path):
    module = "tensorboard.backend.event_processing.event_accumulator"
    reader = pytest.importorskip(module, reason="TensorBoard as the reader (install tensorboard)")
    first = EventFile(tmp_path)
    for step in (1, 2, 3, 4):
        first.add(step, {"loss/step": step / 8})
    second = EventFile(tmp_path, step=3)
    second.add(3, {"loss/step": 2.5, "rate": 0.25})
    found = reader.EventAccumulator(str(tmp_path)).Reload()
    told = {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    assert told == {"loss/step": [(1, 0.125), (2, 0.25), (3, 2.5)], "rate": [(3, 0.25)]}
