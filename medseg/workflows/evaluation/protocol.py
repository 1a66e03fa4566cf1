"""How predictions are judged: a small YAML file, `configs/evaluation/NAME.yaml` or the user's own.

It holds what changes the numbers and nothing about where files lie, so a paper can cite it.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import medseg
from medseg.errors import UsageError
from medseg.metrics.surface import Definition

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGE = Path(medseg.__file__).parent
DEFINITIONS = get_args(Definition)


@dataclass(frozen=True)
class Instances:
    """Scoring of single lesions, nodules or nuclei.

    Args:
        structures: whose connected components are instances; () for all structures. Not for maps of instances.
        connectivity: 6, 18 or 26 neighbours hold a component together.
        iou: thresholds of a hit.
        minimum_mm3: smaller components are no instances, in either map.
        buckets_mm3: edges of the size classes that are also reported.
    """

    structures: tuple[str, ...] = ()
    connectivity: Literal[6, 18, 26] = 26
    iou: tuple[float, ...] = (0.1, 0.5)
    minimum_mm3: float = 0.0
    buckets_mm3: tuple[float, ...] = ()

    def buckets(self) -> dict[str, tuple[float, float]]:
        """Name -> (from, below) in mm3 of the size classes between the edges."""
        edges = (0.0, *self.buckets_mm3, math.inf) if self.buckets_mm3 else ()
        names = [
            f"<{b:g}mm3" if not a else f">={a:g}mm3" if b == math.inf else f"{a:g}-{b:g}mm3" for a, b in pairwise(edges)
        ]
        return dict(zip(names, pairwise(edges), strict=True))


@dataclass(frozen=True)
class Protocol:
    """How predictions are judged.

    Args:
        name: of the protocol.
        definition: of surfaces and their distances: 'border', 'surfel' or 'pooled'.
        percentiles: of the Hausdorff distance; 95 gives HD95.
        tolerances_mm: of NSD, boundary IoU and boundary F1.
        structures: see `naming.structures_of`; None: every label, by name or value.
        centreline: structures that are tubes, scored with clDice too.
        maps: 'structures': a value is a structure. 'instances': a value is an instance, whose class and score stand
            in the JSON beside the map; `structures` then names classes by their value (class index + 1).
        instances: None: structures are scored as wholes only.
        headline: the metrics that are shown first.
        growth: relative change of volume from which a lesion counts as growing or shrinking between sessions.
        level: of the bootstrap intervals.
        draws: bootstrap samples.
        seed: of the draws.
    """

    name: str = "default"
    definition: Definition = "border"
    percentiles: tuple[float, ...] = (95.0,)
    tolerances_mm: tuple[float, ...] = (1.0, 2.0)
    structures: Mapping[str, Any] | None = None
    centreline: tuple[str, ...] = ()
    maps: Literal["structures", "instances"] = "structures"
    instances: Instances | None = None
    headline: tuple[str, ...] = ("dice", "hd95_mm", "nsd@1mm", "volume_difference_ml")
    growth: float = 0.25
    level: float = 0.95
    draws: int = 10_000
    seed: int = field(default=0)

    @property
    def of_instances(self) -> bool:
        """Whether the maps hold instances."""
        return self.maps == "instances"

    def to_json(self) -> dict[str, Any]:
        """As plain data, for summary.json."""
        return asdict(self)


def shipped_protocols() -> dict[str, Path]:
    """Name -> file of every shipped protocol."""
    for folder in (_PACKAGE / "_shipped" / "configs", _PACKAGE.parent / "configs"):
        found = {p.stem: p for p in sorted((folder / "evaluation").glob("*.yaml"))}
        if found:
            return found
    return {}


def load_protocol(name_or_file: str | Path | None) -> Protocol:
    """A shipped protocol by name, or a YAML file.

    Raises:
        UsageError: MS-U161 no such protocol, MS-U162 it is no YAML mapping or a key or value is not accepted.
    """
    shipped = shipped_protocols()
    name = str(name_or_file or "default")
    path = shipped.get(name, Path(name))
    if not path.is_file():
        close = difflib.get_close_matches(name, shipped, n=1)
        raise UsageError(
            "MS-U161",
            f"no protocol is called {name!r}; shipped: {', '.join(shipped)}",
            mend=f"type -c {close[0]}" if close else "name one of them, or a YAML file",
        )
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _refused(path, f"it cannot be read ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict):
        raise _refused(path, "it is no mapping of keys to values")
    return protocol_from(content, path)


def protocol_from(content: Mapping[str, Any], path: Path) -> Protocol:
    """Check a protocol's keys and values; errors as for `load_protocol`."""
    given = _known(dict(content), Protocol, path)
    given["name"] = str(given.get("name", path.stem))
    if isinstance(given.get("instances"), dict):
        nested = _known(given["instances"], Instances, path)
        for key in ("iou", "buckets_mm3"):
            if key in nested:
                nested[key] = _numbers(nested[key], key, path)
        if "structures" in nested:
            nested["structures"] = _names(nested["structures"], "structures", path)
        given["instances"] = Instances(**nested)
    for key in ("percentiles", "tolerances_mm"):
        if key in given:
            given[key] = _numbers(given[key], key, path)
    for key in ("centreline", "headline"):
        if key in given:
            given[key] = _names(given[key], key, path)
    protocol = Protocol(**given)
    if protocol.definition not in DEFINITIONS:
        raise _refused(path, f"definition is one of {', '.join(DEFINITIONS)}, not {protocol.definition!r}")
    if protocol.structures is not None and not (isinstance(protocol.structures, dict) and protocol.structures):
        raise _refused(path, "structures maps a name to its value, values or {pred, ref}")
    _require_ranges(protocol, path)
    return protocol


def _require_ranges(protocol: Protocol, path: Path) -> None:
    rule = Instances() if protocol.instances is None else protocol.instances
    if not isinstance(rule, Instances):
        raise _refused(path, f"instances has keys of its own, got {rule!r}")
    edges = (0.0, *rule.buckets_mm3)
    whole = [] if protocol.maps == "structures" else [*protocol.centreline, *rule.structures]
    for right, what in (
        (protocol.maps in ("structures", "instances"), f"maps is structures or instances, not {protocol.maps!r}"),
        (not whole, f"in maps of instances no structure is scored as a whole, got {', '.join(whole)}"),
        (bool(rule.iou), "iou names one threshold or more"),
        (rule.connectivity in (6, 18, 26), f"connectivity is 6, 18 or 26, not {rule.connectivity!r}"),
        (all(v <= 1 for v in rule.iou), f"iou lies in [0, 1], got {list(rule.iou)}"),
        (_is_number(rule.minimum_mm3), f"minimum_mm3 is a number of 0 or more, got {rule.minimum_mm3!r}"),
        (all(a < b for a, b in pairwise(edges)), f"buckets_mm3 rise from above 0, got {list(rule.buckets_mm3)}"),
        (all(v <= 100 for v in protocol.percentiles), f"percentiles lie in [0, 100], got {list(protocol.percentiles)}"),
        (_is_number(protocol.growth), f"growth is a number of 0 or more, got {protocol.growth!r}"),
        (_is_number(protocol.level) and 0 < protocol.level < 1, f"level lies between 0 and 1, got {protocol.level!r}"),
        (type(protocol.draws) is int and protocol.draws > 0, f"draws is a whole number above 0, got {protocol.draws!r}"),
        (type(protocol.seed) is int and protocol.seed >= 0, f"seed is a whole number of 0 or more, got {protocol.seed!r}"),
    ):  # fmt: skip
        if not right:
            raise _refused(path, what)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _known(given: dict[str, Any], kind: type, path: Path) -> dict[str, Any]:
    names = [f.name for f in fields(kind)]
    for key in given:
        if key not in names:
            close = difflib.get_close_matches(str(key), names, n=1)
            raise _refused(path, f"{key!r} is no key of it", f"did you mean {close[0]}?" if close else None)
    return given


def _numbers(value: Any, key: str, path: Path) -> tuple[float, ...]:
    values = value if isinstance(value, list) else [value]
    if not all(map(_is_number, values)):
        raise _refused(path, f"{key} are numbers of 0 or more, got {value!r}")
    return tuple(float(v) for v in values)


def _names(value: Any, key: str, path: Path) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(v, str) for v in values):
        raise _refused(path, f"{key} are names, got {value!r}")
    return tuple(values)


def _refused(path: Path, what: str, mend: str | None = None) -> UsageError:
    return UsageError(
        "MS-U162",
        f"this protocol cannot be used: {what}",
        file=path,
        mend=mend or "write it like the shipped ones in configs/evaluation",
    )
