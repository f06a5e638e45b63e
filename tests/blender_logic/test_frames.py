# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import struct

import pytest
from addon.sidecar import frames
from hypothesis import given
from hypothesis import strategies as st

names = st.text(min_size=1, max_size=10)
headers = st.dictionaries(
    names.filter(lambda name: name != "blocks"),
    st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.floats(-1, 1)),
)


@given(headers, st.dictionaries(names, st.binary(max_size=99), max_size=4))
def test_a_frame_unpacks_to_what_was_packed(header: dict, blocks: dict[str, bytes]) -> None:
    found_header, found_blocks = frames.unpack(frames.pack(header, blocks))
    assert found_header == header
    assert {name: bytes(block) for name, block in found_blocks.items()} == blocks


@given(st.binary(max_size=200))
def test_bytes_that_are_no_frame_are_refused(data: bytes) -> None:
    with pytest.raises(frames.BadFrame):
        frames.unpack(data)


def test_every_shortened_frame_is_refused() -> None:
    frame = frames.pack({"event": "result"}, {"a": b"12345678", "b": b"12345678"})
    for length in range(len(frame)):
        with pytest.raises(frames.BadFrame):
            frames.unpack(frame[:length])


def test_blocks_begin_where_an_array_may_lie() -> None:
    frame = frames.pack({"a": "é"}, {"one": b"x", "two": b"yz", "three": os.urandom(9)})
    for block in frames.unpack(frame)[1].values():
        assert frame.index(bytes(block)) % 8 == 0


def test_a_header_that_is_too_long_is_neither_sent_nor_read() -> None:
    with pytest.raises(frames.BadFrame, match="allowed"):
        frames.pack({"a": "x" * frames.MAXIMUM_HEADER_BYTES})
    with pytest.raises(frames.BadFrame):
        frames.unpack(struct.pack("<4sI", frames.MAGIC, 2**32 - 1) + bytes(100))


@pytest.mark.parametrize(
    "header", [b"[]", b"{}", b'{"blocks":[["a",-8]]}', b'{"blocks":[3]}', b"{"]
)
def test_a_header_of_another_form_is_refused(header: bytes) -> None:
    frame = struct.pack("<4sI", frames.MAGIC, len(header)) + header
    with pytest.raises(frames.BadFrame):
        frames.unpack(frame + bytes(-len(frame) % 8))
