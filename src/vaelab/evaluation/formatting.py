"""Number formatting: digits rounded to the standard error, a true minus sign, commas between thousands."""

from __future__ import annotations

import math

SIGNIFICANT = 4
"""Significant digits of a value without error; one fewer below 1."""


def rounded(value: float, error: float | None = None) -> str:
    """Format a value, followed by ± and its standard error if there is one.

    Parameters
    ----------
    value
        The value; NaN becomes a dash.
    error
        Standard error, shown with two significant digits; `value` is rounded to the same place. None or NaN: not shown.
    """
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞" if value > 0 else "−∞"
    if error is None or not math.isfinite(error):
        return _plain(value)
    if error <= 0:
        return f"{_plain(value)} ± 0"
    places = 1 - int(f"{error:.1e}".partition("e")[2])  # decimal place of the rounded error's second digit
    if places > 7:
        return f"{_power(value, SIGNIFICANT)} ± {_power(error, 2)}"
    return f"{_fixed(value, places)} ± {_fixed(error, places)}"


def exponential(exponent: float) -> str:
    """Format e to the power of `exponent`, at least 0, with one significant digit, also beyond the range of floats."""
    power = math.floor(exponent / math.log(10))
    leading = round(math.exp(exponent - power * math.log(10)))
    return f"{leading * 10**power:,}" if power < 6 else f"{leading // 10 or leading}·10{_raised(power + leading // 10)}"


def _plain(value: float) -> str:
    """Format with `SIGNIFICANT` digits; whole numbers without decimals."""
    size = abs(value)
    digits = SIGNIFICANT - (size < 1)
    if value == round(value) and size < 1e7:
        return _fixed(value, 0)
    if not 1e-4 <= size < 1e7:
        return _power(value, digits)
    return _fixed(value, max(0, digits - 1 - int(f"{size:.{digits - 1}e}".partition("e")[2])))


def _fixed(value: float, places: int) -> str:
    text = f"{round(value, places):,.{max(0, places)}f}"
    zero = not text.strip("-0.,")
    return text.replace("-", "" if zero else "−")


def _power(value: float, digits: int) -> str:
    """Format as 1.234·10⁻⁵."""
    if value == 0:
        return "0"
    mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa.replace('-', '−')}·10{_raised(int(power))}"


def _raised(power: int) -> str:
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
