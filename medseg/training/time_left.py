"""How long a run still takes, from the share of its budget that is spent."""

from __future__ import annotations

#: The estimate looks back at this share of what has passed since the run began: validation and cached cases come in waves.
_LOOK_BACK = 0.5


class TimeLeft:
    """An estimate from (share, time) pairs, told in order."""

    def __init__(self) -> None:
        self._told: list[tuple[float, float]] = []

    def tell(self, share: float, now_s: float) -> None:
        """So much of the budget, in [0, 1], is spent at this time."""
        self._told.append((share, now_s))
        if len(self._told) > 2000:
            self._told = self._told[:1] + self._told[1::2]

    def seconds(self) -> float | None:
        """Seconds left, None where it is too early to say."""
        if len(self._told) < 3:
            return None
        (_, begun), (share, now) = self._told[0], self._told[-1]
        since = begun + (now - begun) * (1 - _LOOK_BACK)
        before, at = next(pair for pair in self._told if pair[1] >= since)
        if share <= before:
            before, at = self._told[0]
        return None if share <= before else (now - at) * (1.0 - share) / (share - before)


def in_words(seconds: float) -> str:
    """'40 s', '12 min', '3 h 20 min'."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
