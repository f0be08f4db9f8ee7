"""What tests of pages, artifacts and cards share: an outline of HTML, hostile texts, small pictures."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import numpy as np
from markdown_it import MarkdownIt
from PIL import Image

VOID = {"meta", "img", "br", "link", "input", "hr"}
SVG_LEAVES = {"path"}


class Outline(HTMLParser):
    """Elements, their attributes, the text; and whether every element is closed where it was opened."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> states an attribute twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID | SVG_LEAVES
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag
        self.text += "" if tag in ("b", "bdi", "span", "code", "strong", "time") else "\n"

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def jpeg(seed: int, size: tuple[int, int] = (120, 90), quality: int = 80) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "JPEG", quality=quality)
    return out.getvalue()


HOSTILE = {
    "script": "<script>alert(1)</script>",
    "attribute": '"><img src=x onerror=alert(1)>',
    "single quote": "' onmouseover='alert(1)",
    "bidi override": "gpj.\u202eexe.jpg",
    "newline": "a\n\n# heading\n| b |",
    "markdown link": "[click](https://evil.example/x)",
    "markdown picture": "![x](https://evil.example/x.png)",
    "bare address": "see https://evil.example/x and www.evil.example and me@evil.example",
    "code": "`a` **b** ~~c~~ _d_",
    "table": "a | b | c",
    "template": "{{ 7 * 7 }} {% raw %}",
    "terminal": "\x1b]0;title\x07\x1b[2J\x1b[31mred\r\x9b31m",
    "rich markup": "[bold red]x[/] :skull: [link=https://evil.example]y[/link]",
    "surrogate": "broken-\udcff.jpg",
    "math": "$\\frac{1}{0}$",
    "other scripts": "螺母 \U0001f529 שלום",
    "close style": "</style></svg></title><base href=https://evil.example>",
    "very long": "x" * 20_000,
}


def assert_stays_text(calm: str, hostile: str) -> None:
    """Markdown with a hostile text renders to the same tokens as with a calm one, and holds no address."""
    assert kinds_of_tokens(hostile) == kinds_of_tokens(calm)
    assert "<" not in hostile
    assert not re.search(r"https?://|www\.|\S@\w", re.sub(r"base64,[\w+/=]+", "", hostile))
    assert_harmless(hostile.replace("\n", "").replace("\u2060", ""))


def kinds_of_tokens(markdown: str) -> list[str]:
    """What a Markdown renderer makes of it: blocks, pictures, emphasis, HTML, links; not the words."""
    kinds = []
    for token in MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(markdown):
        kinds.append(token.type)
        kinds += [child.type for child in token.children or () if child.type not in ("text", "text_special")]
    return kinds


def assert_harmless(text: str) -> None:
    hidden = [character for character in text if not character.isprintable() and character not in "\u00a0\u3000"]
    assert [hex(ord(character)) for character in hidden if not _is_space(character)] == []


def _is_space(character: str) -> bool:
    return character.isspace() and character not in "\n\r\t\v\f\x1c\x1d\x1e\x1f\x85\u2028\u2029"
