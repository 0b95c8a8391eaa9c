"""Figures as text, alike in every form of the report."""

from __future__ import annotations

from collections.abc import Callable


def percent(value: float | None) -> str:
    """A fraction as percent with one decimal; a missing figure as a dash."""
    return "–" if value is None else f"{round(100 * value, 6):.1f}"


def points(value: float | None) -> str:
    """A difference of fractions as signed percentage points; a missing one as a dash."""
    return "–" if value is None else f"{round(100 * value, 6):+.1f}".replace("-", "−")


def ratio(value: float | None) -> str:
    """A ratio with two decimals; a missing one as a dash."""
    return "–" if value is None else f"{value:.2f}"


def number(decimals: int) -> Callable[[float | None], str]:
    """How a number with so many decimals is written; a missing one as a dash."""
    return lambda value: "–" if value is None else f"{value:.{decimals}f}"


def probability(value: float | None) -> str:
    """A p-value with three decimals, `< 0.001` below that; a missing one as a dash."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def span(low: float | None, high: float | None, form: Callable[[float | None], str]) -> str:
    """`LOW to HIGH`, each in `form`; a missing interval as a dash."""
    return "–" if low is None or high is None else f"{form(low)} to {form(high)}"


def within(low: float | None, high: float | None) -> tuple[float | None, float | None]:
    """An interval of a fraction as far as it lies in 0 to 1: a t interval may reach beyond."""
    return (None, None) if low is None or high is None else (max(low, 0.0), min(high, 1.0))


def shade(accuracy: float) -> int:
    """Class of a cell's background, 0 (accuracy 0) to 10 (accuracy 1)."""
    return round(10 * accuracy)


def duration(seconds: float) -> str:
    """`42 s` or `3 min 07 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{seconds:.1f} s" if seconds < 10 else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def whole(value: float | None) -> str:
    """A count with thousands apart; an unknown one as a dash."""
    return "–" if value is None else f"{value:,.0f}".replace(",", " ")
