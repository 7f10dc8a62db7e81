"""Documents of text, tables and pictures, rendered to Markdown and to one self-contained HTML file."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote, unquote

__all__ = ["Document", "Picture", "Section", "Table", "markdown_table", "render_html", "render_markdown"]


@dataclass(frozen=True)
class Table:
    """A table; cells are Markdown on one line."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """An image that exists as ``path.png`` and ``path.svg``; the caption is Markdown on one line."""

    path: Path
    caption: str


@dataclass(frozen=True)
class Section:
    """A title, followed by Markdown paragraphs or lists, tables and pictures."""

    title: str
    parts: Sequence[str | Table | Picture]


@dataclass(frozen=True)
class Document:
    """A title and sections."""

    title: str
    sections: Sequence[Section]


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns.

    >>> print(markdown_table(("name", "T"), [("p-1h", "30")]))
    | name | T  |
    |------|----|
    | p-1h | 30 |
    """
    lines = [[cell.replace("|", r"\|") for cell in line] for line in (head, *rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([text[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *text[1:]])


def render_markdown(document: Document, folder: Path) -> str:
    """Return the document as Markdown for a file in ``folder``; pictures are links relative to that folder."""

    def render(part: str | Table | Picture) -> str:
        if isinstance(part, Table):
            return markdown_table(part.head, part.rows)
        if isinstance(part, Picture):
            file = quote(part.path.with_name(f"{part.path.name}.png").relative_to(folder).as_posix())
            return f"![{part.caption}]({file})\n\n*{part.caption}*"
        return part

    sections = (f"## {section.title}\n\n" + "\n\n".join(map(render, section.parts)) for section in document.sections)
    return f"# {document.title}\n\n" + "\n\n".join(sections) + "\n"


def render_html(text: str, folder: Path) -> str:
    """Return the Markdown of `render_markdown` as one HTML file with the pictures embedded as SVG.

    HTML in the text is escaped.

    Args:
        text: the Markdown.
        folder: the folder of the Markdown file, to which the links to pictures are relative.

    Raises:
        OSError: if a picture cannot be read.
    """
    from markdown_it import MarkdownIt  # here, because every command imports this module and few write HTML

    parser = MarkdownIt("commonmark", {"html": False, "xhtmlOut": False}).enable("table")
    tokens = parser.parse(text)
    for image in (child for token in tokens for child in token.children or () if child.type == "image"):
        file = folder / unquote(str(image.attrs["src"]))
        data = b64encode(file.with_suffix(".svg").read_bytes()).decode()
        image.attrs["src"] = f"data:image/svg+xml;base64,{data}"
    title = escape(text.splitlines()[0].removeprefix("# "))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{parser.renderer.render(tokens, parser.options, {})}</body>\n</html>\n"
    )


# A table scrolls sideways where it is wider than the page. The paragraph after a picture is its caption.
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff }
body { max-width: 66rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem; line-height: 1.2 } h2 { font-size: 1.25rem; margin-top: 2.5rem; border-bottom: 1px solid #ccc }
code { font: .88em ui-monospace, monospace; background: #f3f3f3; padding: 0 .2em; border-radius: 3px }
table { display: block; overflow-x: auto; margin: 1rem 0; border-collapse: collapse; font-size: .86rem }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top } td code { background: none }
th { border-bottom: 2px solid #888 } td:not(:first-child) { font-variant-numeric: tabular-nums }
p:has(> img) { margin: 1.5rem 0 0 } img { max-width: 100%; height: auto; zoom: 1.25 }
p:has(> img) + p { margin-top: 0; color: #555; font-size: .88rem }
"""
