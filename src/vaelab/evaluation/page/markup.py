"""HTML markup that its contents cannot break: text is escaped unless it is markup already."""

from __future__ import annotations

from html import escape

from vaelab.errors import printable


class Html(str):
    """Text that is markup already and is not escaped."""


def tag(name: str, /, *children: str, **attributes: object) -> Html:
    """Return an element of HTML or SVG.

    Parameters
    ----------
    name
        Name of the element.
    children
        Contents; escaped, except `Html`.
    attributes
        Underscores in a name become hyphens, trailing ones are removed (`class_`). None and False are left out, True gives an
        attribute without a value, and floats are rounded to two decimals.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    return Html(f"<{name}{written}>{joined(*children)}</{name}>")


def void(name: str, /, **attributes: object) -> Html:
    """Return an element without contents, such as `<br>` or `<path />`."""
    return Html(f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())} />")


def joined(*children: str) -> Html:
    """Join several pieces; escaped, except `Html`. Characters that cannot be printed are escaped too."""
    return Html(
        "".join(child if isinstance(child, Html) else escape(printable(child), quote=False) for child in children)
    )


def number(value: float) -> str:
    """Format a coordinate with at most two decimals."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    key = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {key}"
    return f' {key}="{escape(number(value) if isinstance(value, float) else printable(str(value)))}"'
