"""Markup that cannot be broken by what it shows: text is escaped unless it is markup already."""

from __future__ import annotations

from html import escape


class Html(str):
    """Text that is markup already, and is taken as it stands."""


def tag(name: str, /, *children: str, **attributes: object) -> Html:
    """An element of HTML or SVG.

    Parameters
    ----------
    name
        Of the element.
    children
        What is inside; escaped, but for `Html`.
    attributes
        An underscore in a name stands for a hyphen, and none is left at its end (`class_`). None and False are left out,
        True is an attribute without a value, and reals are cut to two digits after the point.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    return Html(f"<{name}{written}>{joined(*children)}</{name}>")


def void(name: str, /, **attributes: object) -> Html:
    """An element that holds nothing, such as `<br>` or `<path />`."""
    return Html(f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())} />")


def joined(*children: str) -> Html:
    """Several pieces, one after the other; escaped, but for `Html`."""
    return Html("".join(child if isinstance(child, Html) else escape(child, quote=False) for child in children))


def number(value: float) -> str:
    """A coordinate, with at most two digits after the point."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    key = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {key}"
    return f' {key}="{escape(number(value) if isinstance(value, float) else str(value))}"'
