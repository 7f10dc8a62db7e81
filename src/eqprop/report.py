"""Documents: sections of text, tables and pictures, as Markdown and as one HTML file that needs no other."""

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

__all__ = ["Document", "Picture", "Section", "Table", "html", "markdown", "markdown_table"]


@dataclass(frozen=True)
class Table:
    """Rows of text under a head; text in backquotes is code."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A picture that is there as ``path`` with the endings ``.png`` and ``.svg``."""

    path: Path
    caption: str


@dataclass(frozen=True)
class Section:
    """A title, and paragraphs, tables and pictures in their order."""

    title: str
    parts: Sequence[str | Table | Picture]


@dataclass(frozen=True)
class Document:
    """A title and sections."""

    title: str
    sections: Sequence[Section]


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its columns aligned."""
    lines = [[cell.replace("|", r"\|") for cell in line] for line in (head, *rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([text[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *text[1:]])


def markdown(document: Document, folder: Path) -> str:
    """The document for a file in ``folder``, to which its pictures are linked."""

    def part(item: str | Table | Picture) -> str:
        if isinstance(item, Table):
            return markdown_table(item.head, item.rows)
        if isinstance(item, Picture):
            file = item.path.with_name(f"{item.path.name}.png").relative_to(folder).as_posix()
            return f"![{item.caption}]({file})\n\n*{item.caption}*"
        return item

    sections = (f"## {section.title}\n\n" + "\n\n".join(map(part, section.parts)) for section in document.sections)
    return f"# {document.title}\n\n" + "\n\n".join(sections) + "\n"


def html(document: Document) -> str:
    """The document as one file, pictures inside.

    Raises:
        OSError: if a picture cannot be read.
    """
    sections = (
        f"<section>\n<h2>{inline(section.title)}</h2>\n" + "\n".join(map(element, section.parts)) + "\n</section>"
        for section in document.sections
    )
    title = escape(document.title)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n" + "\n".join(sections) + "\n</body>\n</html>\n"
    )


def element(item: str | Table | Picture) -> str:
    """One part of a section."""
    if isinstance(item, Table):
        head = "".join(f"<th>{inline(cell)}</th>" for cell in item.head)
        rows = ("<tr>" + "".join(f"<td>{inline(cell)}</td>" for cell in row) + "</tr>" for row in item.rows)
        body = "\n".join(rows)
        return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'
    if isinstance(item, Picture):
        data = b64encode(item.path.with_name(f"{item.path.name}.svg").read_bytes()).decode()
        caption = inline(item.caption)
        alt = escape(item.caption, quote=True)
        return f'<figure><img alt="{alt}" src="data:image/svg+xml;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    if item.startswith("- "):
        return "<ul>\n" + "\n".join(f"<li>{inline(line[2:])}</li>" for line in item.splitlines()) + "\n</ul>"
    return f"<p>{inline(item)}</p>"


def inline(text: str) -> str:
    """Escaped text, with code, bold and slanted words; nothing within code means anything."""
    return MARKS.sub(marked, escape(text, quote=False))


MARKS = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*")


def marked(found: re.Match[str]) -> str:
    """The element for one mark."""
    code, bold, slanted = found.groups()
    if code is not None:
        return f"<code>{code}</code>"
    return f"<strong>{MARKS.sub(marked, bold)}</strong>" if bold else f"<em>{MARKS.sub(marked, slanted)}</em>"


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff }
body { max-width: 66rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem; line-height: 1.2 } h2 { font-size: 1.25rem; margin-top: 2.5rem; border-bottom: 1px solid #ccc }
code { font: .88em ui-monospace, monospace; background: #f3f3f3; padding: 0 .2em; border-radius: 3px }
.wide { overflow-x: auto; margin: 1rem 0 } table { border-collapse: collapse; font-size: .86rem }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top } td code { background: none }
th { border-bottom: 2px solid #888 } td:not(:first-child) { font-variant-numeric: tabular-nums }
figure { margin: 1.5rem 0 } img { max-width: 100%; height: auto; zoom: 1.25 } figcaption { color: #555; font-size: .88rem }
"""
