"""Reads a page as a browser would, for tests."""

from __future__ import annotations

import re
from html.parser import HTMLParser


class _Page(HTMLParser):
    """Collects addresses, checks that tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href")]
        if tag not in ("meta", "img", "br", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(page: str) -> _Page:
    """Checked: tags closed, all addresses inside the page, nothing fetched."""
    parser = _Page()
    parser.feed(page)
    assert parser.open == []
    assert all(address.startswith(("data:image/", "#")) for address in parser.addresses)
    anchors = {address[1:] for address in parser.addresses if address.startswith("#")}
    assert anchors <= set(re.findall(r'id="(\w+)"', page))
    parser.addresses = [address for address in parser.addresses if address[0] != "#"]
    assert "Not for clinical use" in parser.text
    assert not re.search(r"@import|url\(", page)
    return parser
