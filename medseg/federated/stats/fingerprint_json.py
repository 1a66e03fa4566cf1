"""A fingerprint as plain data, and the allow-list of what may be in it.

`from_json` reads known keys, finite numbers, and names of structures, channels and modalities that hold no date, long number
or file name; everything else it refuses. A site reads what it is about to send, the server what it got.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError
from medseg.federated.stats.fingerprint import MODALITY, NAME, NUMBERS, Bins, ChannelPrint, Fingerprint, Structure
from medseg.federated.stats.sketch import PROBS, Sketch

if TYPE_CHECKING:
    import re

    from medseg.federated.stats.fingerprint import Three

#: The form of what `to_json` writes.
VERSION = 1
_MOST_BINS = 512


def to_json(fingerprint: Fingerprint) -> dict[str, Any]:
    """Plain data; `from_json` reads it back."""
    return {"version": VERSION, **_plain(fingerprint)}


def from_json(data: Any) -> Fingerprint:
    """Read `to_json`'s data, and refuse everything else.

    Raises:
        InputError: MS-J170 saying what does not belong into a fingerprint, without repeating it.
    """
    try:
        return _read(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        mend = "send what medseg.federated.stats.fingerprint made, of the same version of medseg"
        raise InputError("MS-J170", f"this is no fingerprint of a site: {error}", mend=mend) from error


def _plain(node: Any) -> Any:
    if isinstance(node, Sketch):
        return {"n": node.n, "q": list(node.values)}
    if hasattr(node, "__dataclass_fields__"):
        return {key: _plain(getattr(node, key)) for key in node.__dataclass_fields__}
    if isinstance(node, tuple | list):
        return [_plain(one) for one in node]
    if hasattr(node, "items"):
        return {key: _plain(value) for key, value in node.items()}
    return node


def _read(data: Any) -> Fingerprint:
    data = _keys(data, "version", *Fingerprint.__dataclass_fields__)
    if data["version"] != VERSION:
        msg = f"its version is {data['version']!r}, here it is {VERSION}"
        raise ValueError(msg)
    cases, at_least = _whole(data["cases"]), _whole(data["at_least"])
    if 0 < cases < at_least:
        msg = f"it tells of {cases} cases and says that it tells of no fewer than {at_least}"
        raise ValueError(msg)
    modality = {_text(term, MODALITY): _whole(n) for term, n in dict(data["modality"]).items()}
    return Fingerprint(
        cases,
        at_least,
        _whole(data["unreadable"]),
        modality,
        _read_three(data["spacing_mm"], at_least),
        _read_three(data["extent_mm"], at_least),
        tuple(_read_channel(one, at_least) for one in data["channels"]),
        tuple(_read_structure(one, at_least) for one in data["structures"]),
    )


def _read_channel(data: Any, at_least: int) -> ChannelPrint:
    data = _keys(data, *ChannelPrint.__dataclass_fields__)
    numbers = {key: _read_sketch(one, at_least) for key, one in _keys(data["numbers"], *NUMBERS, whole=False).items()}
    bins = data["bins"]
    if bins is not None:
        bins = _keys(bins, *Bins.__dataclass_fields__)
        bins = Bins(_one_of(bins["unit"], "raw", "scan"), _real(bins["low"]), _real(bins["high"]), _whole(bins["n"]))
        if not (bins.low < bins.high and 0 < bins.n <= _MOST_BINS):
            msg = f"bins from {bins.low} to {bins.high}, {bins.n} of them"
            raise ValueError(msg)
    shares = [tuple(_real(x) for x in data[key]) for key in ("grey", "tissue")]
    if any(row and (bins is None or len(row) != bins.n or min(row) < 0 or sum(row) > 1.01) for row in shares):
        msg = "a histogram that does not fit its bins"
        raise ValueError(msg)
    return ChannelPrint(_text(data["name"], NAME), numbers, bins, *shares)


def _read_structure(data: Any, at_least: int) -> Structure:
    data = _keys(data, *Structure.__dataclass_fields__)
    cases = None if data["cases"] is None else _whole(data["cases"])
    if cases is not None and 0 < cases < at_least:
        msg = f"a structure of fewer than {at_least} cases"
        raise ValueError(msg)
    right = None if data["right"] is None else _real(data["right"])
    volume = None if data["volume_ml"] is None else _read_sketch(data["volume_ml"], at_least)
    mirror = None if data["mirror"] is None else _text(data["mirror"], NAME)
    offset = _read_three(data["offset_mm"], at_least)
    return Structure(_text(data["name"], NAME), _whole(data["value"]), cases, volume, offset, mirror, right)


def _read_three(data: Any, at_least: int) -> Three | None:
    if data is None:
        return None
    x, y, z = (_read_sketch(one, at_least) for one in data)
    return x, y, z


def _read_sketch(data: Any, at_least: int) -> Sketch:
    data = _keys(data, "n", "q")
    values = tuple(_real(x) for x in data["q"])
    if len(values) != len(PROBS) or list(values) != sorted(values):
        msg = f"quantiles are {len(PROBS)} ascending numbers"
        raise ValueError(msg)
    if _whole(data["n"]) < at_least:
        msg = f"quantiles of fewer than {at_least} cases"
        raise ValueError(msg)
    return Sketch(_whole(data["n"]), values)


def _keys(data: Any, *allowed: str, whole: bool = True) -> dict[str, Any]:
    if not isinstance(data, dict):
        msg = f"a table was expected, not {type(data).__name__}"
        raise TypeError(msg)
    strange, missing = set(data) - set(allowed), set(allowed) - set(data)
    if strange or (whole and missing):
        msg = f"keys that do not belong there: {len(strange)}; missing: {', '.join(sorted(missing)) if whole else ''}"
        raise ValueError(msg)
    return data


def _real(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        msg = "a finite number was expected"
        raise TypeError(msg)
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        msg = "a whole number of at least 0 was expected"
        raise TypeError(msg)
    return int(value)


def _text(value: Any, form: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        msg = "a name that holds more than letters, few digits and few signs"
        raise ValueError(msg)
    return str(value)


def _one_of(value: Any, *allowed: str) -> str:
    if value not in allowed:
        msg = f"one of {', '.join(allowed)} was expected"
        raise ValueError(msg)
    return value
