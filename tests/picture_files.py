"""Pictures on disk: whether both of their files are whole and show something; and sketches, which need only be there."""

import struct
import zlib
from itertools import count
from xml.etree import ElementTree

SVG = "{http://www.w3.org/2000/svg}"


def pixels(raw: bytes) -> tuple[int, int, bytes]:
    """Width, height and raw data of a PNG, after every chunk's checksum was compared."""
    assert raw.startswith(b"\x89PNG\r\n\x1a\n")
    place, data = 8, b""
    while place < len(raw):
        length, kind = struct.unpack(">I4s", raw[place : place + 8])
        body = raw[place + 8 : place + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack(">I", raw[place + 8 + length : place + 12 + length])[0]
        if kind == b"IHDR":
            width, height = struct.unpack(">II", body[:8])
        data += body if kind == b"IDAT" else b""
        place += 12 + length
    assert kind == b"IEND"
    return width, height, zlib.decompress(data)


def check(path, *words) -> None:
    """Both files are there, are whole, and show something; the words are in the SVG's text or its comments."""
    width, height, data = pixels(path.with_name(path.name + ".png").read_bytes())
    assert width >= 600
    assert height >= 400
    assert len(set(data)) > 10
    text = path.with_name(path.name + ".svg").read_text()
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert len(list(root.iter(f"{SVG}path"))) > 10
    for word in words:
        assert word in text
    assert sorted(p.name for p in path.parent.iterdir()) == [f"{path.name}.png", f"{path.name}.svg"]


def sketched(patch) -> None:
    """Pictures that are drawn in no time: each is another one, and holds nothing."""
    number = count()

    def sketch(figure, file, *, format, **options):
        file.write(f"<svg>{next(number)}</svg>".encode())

    patch.setattr("matplotlib.figure.Figure.savefig", sketch)
