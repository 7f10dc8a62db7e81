"""Documents are rendered to Markdown, and the Markdown to one self-contained HTML file without foreign HTML."""

import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import pytest

from eqprop.report import Document, Picture, Section, Table, markdown_table, render_html, render_markdown

SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><text>a &amp; b</text></svg>'
PNG = b"\x89PNG\r\n\x1a\n and so on"

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """A page taken apart: its elements, their text, and whether every one that is opened is closed."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open, self.found, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], "left open"

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), "an attribute twice"
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append((tuple(self.open), data))

    def has(self, tag: str) -> bool:
        return any(name == tag for name, _ in self.found)

    def texts(self, tag: str) -> list[str]:
        """The text of each piece that stands right in an element of that name."""
        return [data for opened, data in self.words if opened and opened[-1] == tag]


@pytest.fixture
def picture(tmp_path) -> Picture:
    """Both files of a picture, in a folder below."""
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "errors.svg").write_bytes(SVG)
    (tmp_path / "plots" / "errors.png").write_bytes(PNG)
    return Picture(tmp_path / "plots" / "errors", 'Errors < 2 % & "more".')


def small(*parts, title="A title") -> Document:
    return Document(title, [Section("First", ["Some words."]), Section("Second", parts)])


def html(document: Document, folder: Path) -> str:
    return render_html(render_markdown(document, folder), folder)


@pytest.fixture
def page(tmp_path):
    """A function that takes apart the page of some parts."""
    return lambda *parts: Page(html(small(*parts), tmp_path))


def test_a_table_in_markdown():
    text = markdown_table(("name", "n"), [("a", "1"), ("longer", "20")])
    assert text.splitlines() == ["| name   | n  |", "|--------|----|", "| a      | 1  |", "| longer | 20 |"]


def test_a_table_without_rows():
    assert markdown_table(("a", "bc"), []).splitlines() == ["| a | bc |", "|---|----|"]


def test_a_bar_in_a_cell_is_no_column():
    lines = markdown_table(("|s|",), [("a|b",)]).splitlines()
    assert [re.split(r"(?<!\\)\|", line)[1:-1] for line in (lines[0], lines[2])] == [[r" \|s\| "], [r" a\|b  "]]
    assert len({len(line) for line in lines}) == 1


def test_rows_of_other_lengths_are_refused():
    with pytest.raises((ValueError, IndexError)):
        markdown_table(("a", "b"), [("1",)])


def test_markdown_has_everything_in_its_order(picture, tmp_path):
    text = render_markdown(small("Before.", Table(("a",), [("1",)]), picture, "- one\n- two"), tmp_path)
    blocks = text.strip().split("\n\n")
    assert blocks == [
        "# A title", "## First", "Some words.", "## Second", "Before.", "| a |\n|---|\n| 1 |",
        '![Errors < 2 % & "more".](plots/errors.png)', '*Errors < 2 % & "more".*', "- one\n- two",
    ]  # fmt: skip
    assert text.endswith("- two\n")


def test_links_are_relative_to_the_file(picture, tmp_path):
    """The folder can be moved, and names nobody."""
    text = render_markdown(small(picture), tmp_path)
    assert str(tmp_path) not in text
    (link,) = re.findall(r"!\[.*\]\((.*)\)", text)
    assert not Path(link).is_absolute()
    assert (tmp_path / link).read_bytes() == PNG


def test_markdown_of_a_folder_without_a_name(picture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "(plots/errors.png)" in render_markdown(small(Picture(Path("plots/errors"), "x")), Path())


def test_links_are_valid_whatever_the_name_of_the_file(tmp_path):
    for ending, content in (("svg", SVG), ("png", PNG)):
        (tmp_path / f"a (b) c.1.{ending}").write_bytes(content)
    text = render_markdown(small(Picture(tmp_path / "a (b) c.1", "x")), tmp_path)
    assert Page(render_html(text, tmp_path)).has("img")


def test_html_has_everything_in_its_order(picture, page):
    found = page("Before.", Table(("a", "b"), [("1", "2"), ("3", "4")]), picture, "- one\n- two", "After.")
    names = [name for name, _ in found.found if name in ("h1", "h2", "p", "table", "th", "td", "img", "li")]
    assert names == ["h1", "h2", "p", "h2", "p", "table", *["th"] * 2, *["td"] * 4, "p", "img", "p", *["li"] * 2, "p"]
    assert found.texts("h1") == found.texts("title") == ["A title"]
    assert found.texts("h2") == ["First", "Second"]
    assert found.texts("p") == ["Some words.", "Before.", "After."]
    assert found.texts("th") == ["a", "b"]
    assert found.texts("td") == ["1", "2", "3", "4"]
    assert found.texts("li") == ["one", "two"]
    assert found.texts("em") == ['Errors < 2 % & "more".']


def test_the_page_declares_type_language_and_encoding(tmp_path):
    text = html(small(), tmp_path)
    assert text.lower().startswith("<!doctype html>\n<html lang=")
    assert ("meta", {"charset": "utf-8"}) in Page(text).found
    assert text.endswith("</html>\n")


@pytest.mark.parametrize(
    "text",
    ["a < b & c > d", "<script>alert(1)</script>", "\"quotes\" and 'such'", "5 % – “RMSE” β → 0", "a|b", "2 * 3 * 4"],
)
def test_text_is_escaped_everywhere(text, picture, tmp_path):
    """In a title, a paragraph, a list, a cell and a caption."""
    document = Document(
        text, [Section(text, [text, f"- {text}", Table((text,), [(text,)]), Picture(picture.path, text)])]
    )
    found = Page(html(document, tmp_path))
    for tag in ("title", "h1", "h2", "p", "li", "th", "td", "em"):
        assert "".join(found.texts(tag)) == text
    assert [attributes["alt"] for tag, attributes in found.found if tag == "img"] == [text]
    assert not found.has("script")


def test_markdown_marks_work_in_every_part(picture, page):
    found = page("`a < b` **bold** *slanted*", Table(("`a|b`",), [("`b`",)]), "- `c`", Picture(picture.path, "`**d**`"))
    assert found.texts("code") == ["a < b", "a|b", "b", "c", "**d**"]
    assert found.texts("strong") == ["bold"]
    assert "slanted" in found.texts("em")


def test_a_picture_is_embedded_as_svg(picture, page):
    found = page(picture)
    ((_, attributes),) = [item for item in found.found if item[0] == "img"]
    kind, data = attributes["src"].split(",", 1)
    assert kind == "data:image/svg+xml;base64"
    assert b64decode(data, validate=True) == SVG


def test_a_page_needs_no_other_file(picture, tmp_path):
    """Nothing is fetched: no link, no script, no font, and every source is data."""
    text = html(small(picture, "Words.", Table(("a",), [("b",)])), tmp_path)
    assert not re.search(r"https?://|@import|url\(", text)
    for tag, attributes in Page(text).found:
        assert tag not in ("script", "link", "iframe", "object", "embed")
        assert "href" not in attributes
        assert attributes.get("src", "data:").startswith("data:")
    assert str(tmp_path) not in text


def test_a_missing_picture(picture, tmp_path):
    picture.path.with_name("errors.svg").unlink()
    with pytest.raises(FileNotFoundError):
        html(small(picture), tmp_path)
