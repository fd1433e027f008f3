"""A page as a parser sees it."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "line", "circle", "polyline"}


class Page(HTMLParser):
    """Refuses tags that do not nest; keeps text and attributes."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.tags = [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self):
        return " ".join("".join(self.text).split())

    def all(self, tag, name):
        return [attributes.get(name) for t, attributes in self.tags if t == tag]
