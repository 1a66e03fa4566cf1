"""How metrics are named and their values written, for people."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from medseg.metrics.table import direction

if TYPE_CHECKING:
    from medseg.metrics.table import Aggregate

_UNITS = {"mm": "mm", "ml": "mL", "mm3": "mm³"}
_ACRONYMS = {"iou": "IoU", "nsd": "NSD", "cldice": "clDice", "froc": "FROC", "cpm": "CPM"}
_ACRONYMS |= {
    n: n.upper() for n in ("hd", "assd", "masd", "pq", "sq", "rq", "ap", "ar", "f1", "ece", "ace", "mce", "nll")
}
_ACRONYMS |= {"auroc": "AUROC", "auprc": "AUPRC", "aurc": "AURC", "ause": "AUSE", "pred": "prediction"}
_ACRONYMS |= {"ref": "reference", "map": "mAP", "n": "number of"}
#: Numbers that keep their sign: a plus says that the prediction is larger.
_SIGNED = ("volume_difference", "volume_change")


def metric_name(metric: str) -> str:
    """'hd95_mm' -> 'HD95 (mm)', 'nsd@1mm' -> 'NSD at 1 mm'; what is unknown keeps its words."""
    stem, unit = metric, ""
    if "_" in metric and metric.rsplit("_", 1)[1] in _UNITS:
        stem, suffix = metric.rsplit("_", 1)
        unit = f" ({_UNITS[suffix]})"
    stem, _, at = stem.partition("@")
    words = [_word(word) for word in stem.split("_") if word] or [metric]
    words[0] = _capital(words[0])
    where = f" at {re.sub(r'(?<=[0-9])(?=[a-z])', ' ', at)}" if at else ""
    return " ".join(words) + where + unit


def better(metric: str) -> str:
    """Which way is better, in words, '' where neither is."""
    return {1: "higher is better", -1: "lower is better", 0: ""}[direction(metric)]


def shown(value: float, metric: str = "") -> str:
    """A value with the digits that its metric deserves; 'inf' and 'n/a' are spelt out."""
    if math.isnan(value):
        return "n/a"
    if math.isinf(value):
        return "inf" if value > 0 else "−inf"
    if value == round(value) and direction(metric) == 0 and not metric.startswith("volume_"):
        return _minus(f"{value:.0f}")
    digits = 2 if abs(value) >= 10 or metric.endswith("_mm") else 3
    signed = "+" if metric.startswith(_SIGNED) and round(value, digits) != 0 else ""
    return _minus(f"{value:{signed}.{digits}f}")


def spread(aggregate: Aggregate, metric: str) -> str:
    """'0.87 to 0.93': the quartiles."""
    return f"{shown(aggregate.q1, metric)} to {shown(aggregate.q3, metric)}"


def infinite(aggregate: Aggregate) -> str:
    """'2 of 40 infinite', '' where none is."""
    gone = aggregate.n - aggregate.n_finite
    return f"{gone} of {aggregate.n} infinite" if gone else ""


def _word(word: str) -> str:
    percentile = re.fullmatch(r"hd(\d+)", word)
    return f"HD{percentile[1]}" if percentile else _ACRONYMS.get(word, word)


def _capital(word: str) -> str:
    return word if any(c.isupper() for c in word) else word[:1].upper() + word[1:]


def _minus(digits: str) -> str:
    plain = digits.lstrip("-+")
    return plain if not plain.strip("0.") else digits.replace("-", "−")
