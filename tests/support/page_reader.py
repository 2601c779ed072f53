"""A page as a strict reader sees it: a tree of elements, with every rule of nesting held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = frozenset({"meta", "br", "hr", "link", "img", "input"})


@dataclass
class Node:
    """One element."""

    name: str
    attributes: dict[str, str]
    children: list[Node | str] = field(default_factory=list)

    def every(self, name: str) -> Iterator[Node]:
        """All elements of a name, in order, this one included."""
        if self.name == name:
            yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.every(name)

    @property
    def nodes(self) -> Iterator[Node]:
        """All elements."""
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.nodes

    @property
    def text(self) -> str:
        """All text, spaces as they are."""
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def classed(self, name: str) -> list[Node]:
        """All elements of a class."""
        return [node for node in self.nodes if name in node.attributes.get("class", "").split()]

    def by_id(self, id_: str) -> Node:
        """The element of an id."""
        return next(node for node in self.nodes if node.attributes.get("id") == id_)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Node("document", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> says {names} twice"
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Node(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"</{tag}> closes <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read(page: str) -> Node:
    """Parse a page; fails where elements are not closed in order."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert len(reader.open) == 1, f"never closed: {[node.name for node in reader.open[1:]]}"
    return reader.open[0]


def rows_of(page: Node, caption: str) -> list[list[str]]:
    """The body of a table, as text."""
    table = next(one for one in page.every("table") if next(one.every("caption")).text == caption)
    body = next(table.every("tbody"))
    return [[c.text for c in row.children if isinstance(c, Node)] for row in body.every("tr")]
