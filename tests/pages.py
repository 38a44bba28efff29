"""What tests of pages read of them: tags, sections, rows of tables."""

from __future__ import annotations

from html.parser import HTMLParser

MOST_BYTES = 3_000_000
ALONE = ("meta", "br", "link")  # tags that are not closed


class Tags(HTMLParser):
    """Tags of a page with their attributes, rows of its tables, and whether all that are opened are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ALONE:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.rows[-1].append(data)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    @property
    def sections(self) -> list[str]:
        """The ids of the page's sections."""
        return [str(attributes["id"]) for tag, attributes in self.found if tag == "section"]


def assert_self_contained(text: str) -> Tags:
    """A page that is whole, small, and needs nothing beside itself; its tags."""
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert len(text.encode()) < MOST_BYTES
    outside = [attributes for tag, attributes in tags.found if tag in ("link", "img", "iframe") or "src" in attributes]
    assert not outside
    return tags
