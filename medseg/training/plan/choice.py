"""One decision of a plan: what, and why, with the numbers behind it. The report is the list of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """A decision.

    Args:
        topic: what it is about, such as 'spacing'.
        value: what was chosen, in words.
        why: the rule and the measured numbers.
    """

    topic: str
    value: str
    why: str


def mm(values: object) -> str:
    """'0.9 x 0.9 x 3 mm' of three numbers."""
    return " x ".join(f"{v:.3g}" for v in values) + " mm"  # type: ignore[attr-defined]


def voxels(values: object) -> str:
    """'40 x 56 x 40' of three numbers."""
    return " x ".join(f"{v:.0f}" for v in values)  # type: ignore[attr-defined]


def many(n: int, what: str) -> str:
    """'1 case', '2 cases'."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
