"""IDX and CIFAR-10 files are read as published; any other content is an error."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqprop.data.formats import decode_cifar, decode_idx, read_cifar, read_idx
from small_sets import idx_bytes

shapes = st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple)


def error_of(read, content, *arguments) -> str:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as failure:
        read(content, *arguments)
    return str(failure.value)


def test_two_images_written_by_hand():
    content = b"\0\0\x08\x03" + b"\0\0\0\x02" + b"\0\0\0\x02" + b"\0\0\0\x03" + bytes(range(12))
    assert read_idx(content).tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    assert read_idx(content).dtype == np.uint8


@given(shapes, st.data())
def test_read_inverts_write(shape, data):
    count = int(np.prod(shape))
    items = data.draw(st.binary(min_size=count, max_size=count))
    found = read_idx(idx_bytes(shape, items), len(shape))
    assert found.shape == shape
    assert found.tobytes() == items


@given(shapes, st.data())
def test_a_wrong_length_is_an_error(shape, data):
    count = int(np.prod(shape))
    whole = idx_bytes(shape, bytes(count))
    length = data.draw(st.integers(0, len(whole) + 5).filter(lambda n: n != len(whole)))
    message = error_of(read_idx, (whole + bytes(5))[:length])
    if length > 4 + 4 * len(shape):
        assert f"must hold {count} bytes" in message
        assert str(length - 4 - 4 * len(shape)) in message


@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda tail: b"\0\0\x08" + tail))
def test_random_bytes_give_an_array_or_a_value_error(content):
    try:
        found = read_idx(content)
    except ValueError:
        error_of(read_idx, content)
    else:
        assert found.tobytes() == content[len(content) - found.size :]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with nothing"),
        (b"\0\0\x08", "starts with 00 00 08"),
        (b"\x1f\x8b\x08\x00rest", "starts with 1f 8b 08 00"),
        (b"\x01\0\x08\x01" + bytes(8), "starts with 01 00 08 01"),
        (idx_bytes((1,), b"1", kind=7), "starts with 00 00 07 01"),
        (idx_bytes((1,), struct.pack(">i", 3), kind=0x0C), r"type 0x0c (int)"),
        (idx_bytes((1,), struct.pack(">f", 3), kind=0x0D), r"type 0x0d (float)"),
        (b"\0\0\x08\0\x05", "one of 0"),
        (b"\0\0\x08\xff" + bytes(1020), "one of 255"),
        (b"\0\0\x08\x03\0\0\0\x01", "has a header of 16 bytes, got 8"),
        (idx_bytes((2**32 - 1,) * 3, b"abc"), "got 3"),
    ],
)
def test_other_formats_are_errors(content, message):
    assert message in error_of(read_idx, content)


def test_rank_is_checked():
    assert "3 dimension" in error_of(read_idx, idx_bytes((2,), b"ab"), 3)


def test_images_and_classes_must_match():
    images, classes = idx_bytes((2, 1, 1), b"ab"), idx_bytes((2,), b"\1\2")
    ((x, y),) = decode_idx([images, classes])
    assert x.tolist() == [[[97]], [[98]]]
    assert y.tolist() == [1, 2]
    assert "2 images and 1 classes" in error_of(decode_idx, [images, idx_bytes((1,), b"\1")])
    assert "3 dimension" in error_of(decode_idx, [classes, images])


def test_cifar_planes_by_hand():
    """A record is the class, then the red, green and blue plane, each row by row."""
    pixel = np.arange(3 * 32 * 32) % 251
    images, classes = read_cifar(b"\x03" + bytes(pixel.tolist()) + b"\x09" + bytes(3072))
    assert classes.tolist() == [3, 9]
    assert images.shape == (2, 3, 32, 32)
    assert images.dtype == np.uint8
    for color, row, column in [(0, 0, 1), (0, 1, 0), (1, 0, 0), (2, 31, 31)]:
        assert images[0, color, row, column] == (1024 * color + 32 * row + column) % 251
    assert not images[1].any()


@given(st.integers(0, 4 * 3073))
def test_cifar_must_hold_whole_records(length):
    if length and length % 3073 == 0:
        assert len(read_cifar(bytes(length))[1]) == length // 3073
    else:
        assert f"got {length} bytes" in error_of(read_cifar, bytes(length))


def test_a_cifar_class_above_nine_is_an_error():
    assert "got 10 in record 1" in error_of(read_cifar, bytes(3073) + b"\x0a" + bytes(3072))


def test_cifar_files_stay_in_order():
    files = [bytes([n]) + bytes(3072) for n in range(3)]
    assert [y.tolist() for _, y in decode_cifar(files)] == [[0], [1], [2]]
