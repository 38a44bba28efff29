"""How results show themselves at a prompt and in a notebook: a title and a few labelled facts, the answer first."""

from __future__ import annotations


class Shown:
    """A result with a short `repr` and the same as HTML in Jupyter."""

    @property
    def title(self) -> str:
        """What this is, in one line."""
        raise NotImplementedError

    @property
    def facts(self) -> dict[str, str]:
        """The few things to know of it, by label."""
        raise NotImplementedError

    def __repr__(self) -> str:
        width = max(map(len, self.facts), default=0)
        return "\n".join([self.title, *(f"  {label:<{width}}  {text}" for label, text in self.facts.items())])

    def _repr_html_(self) -> str:
        from html import escape  # of notebooks alone

        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(label)}</th><td style='text-align:left'>{escape(text)}</td></tr>"
            for label, text in self.facts.items()
        )
        return f"<table><caption>{escape(self.title)}</caption>{rows}</table>"
