"""What a bundle declares about its uncertainty: `uncertainty` in configs/inference.json.

    "uncertainty": {
        "mc": {"samples": 20, "points": {"dropout_bottleneck": null}},
        "ensemble": {"weights": ["models/member_1.safetensors"], "network_def": {"_target_": "..."}},
        "mirrors": ["LR"],
        "calibration": {"mc": {"temperature": 1.2, "dice": {"Liver": [0.05, 0.93]}, "agreement": {"Liver": 0.9}}},
        "flags": {"low_dice": 0.8, "detached_share": 0.05, "across_midline_share": 0.2}
    }

Everything may be left out. `points` name dropout modules and their probabilities, null for the module's own. The
network with the bundle's own weights is a member of the ensemble too; `network_def` is given where the others are built
otherwise. `mirrors` are the symmetries of the anatomy as patient axes: LR, AP, SI or several together ("LR+AP").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medseg.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

AXES = {"LR": 0, "AP": 1, "SI": 2}
METHODS = ("mc", "tta", "ensemble", "ensemble+tta")
#: Samples of Monte Carlo dropout where nobody says how many.
SAMPLES = 20


@dataclass(frozen=True)
class Calibration:
    """Numbers fitted on labelled cases for one method.

    Args:
        temperature: logits are divided by it.
        dice: structure -> (a, b): the Dice to expect is a + b * the agreement of the samples.
        agreement: structure -> the lowest agreement of those cases: less than that is low confidence.
    """

    temperature: float = 1.0
    dice: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    agreement: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Flags:
    """When a structure deserves a second look; None: never for that reason.

    Args:
        low_dice: its predicted Dice is below.
        detached_share: its pieces apart from the largest hold more than this share of it.
        across_midline_share: more than this share of it lies on the other structure's side of the midline.
    """

    low_dice: float | None = None
    detached_share: float | None = None
    across_midline_share: float | None = None


@dataclass(frozen=True)
class Declared:
    """See the file's docstring.

    Args:
        samples: of Monte Carlo dropout.
        points: dropout module -> probability or None; None: every dropout module.
        weights: files of the ensemble's other members, relative to the bundle.
        mirrors: each a set of patient axes, as numbers of `AXES`.
        calibration: by method.
        flags: thresholds.
    """

    samples: int = SAMPLES
    points: Mapping[str, float | None] | None = None
    weights: tuple[str, ...] = ()
    mirrors: tuple[tuple[int, ...], ...] = ()
    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    flags: Flags = field(default_factory=Flags)


def read_declared(config: Any, root: Path) -> Declared:
    """Read `uncertainty` of inference.json; nothing declared is a `Declared` too.

    Args:
        config: the value as parsed from JSON, or None.
        root: the bundle's folder; weights must lie inside.

    Raises:
        BundleError: MS-B115 saying what is not understood.
    """
    try:
        return _declared({} if config is None else config, root)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        said = f"`uncertainty` in inference.json is not understood: {error}"
        raise BundleError(
            "MS-B115", said, file=root, mend="see docs/uncertainty.md for what can stand there"
        ) from error


def _declared(config: Mapping[str, Any], root: Path) -> Declared:
    _only(config, ("mc", "ensemble", "mirrors", "calibration", "flags"), "uncertainty")
    mc = config.get("mc", {})
    _only(mc, ("samples", "points"), "mc")
    ensemble = config.get("ensemble", {})
    _only(ensemble, ("weights", "network_def"), "ensemble")
    weights = tuple(str(path) for path in ensemble.get("weights", ()))
    for path in weights:
        if not (root / path).resolve().is_relative_to(root.resolve()):
            msg = f"the weights {path!r} lie outside the bundle"
            raise ValueError(msg)
    points = mc.get("points")
    _only(config.get("calibration", {}), METHODS, "calibration")
    _only(config.get("flags", {}), tuple(Flags.__dataclass_fields__), "flags")
    return Declared(
        samples=int(mc.get("samples", SAMPLES)),
        points=None if points is None else {str(k): None if p is None else float(p) for k, p in points.items()},
        weights=weights,
        mirrors=tuple(_mirror(word) for word in config.get("mirrors", ())),
        calibration={method: _calibration(row) for method, row in config.get("calibration", {}).items()},
        flags=Flags(**{key: None if v is None else float(v) for key, v in config.get("flags", {}).items()}),
    )


def _mirror(word: str) -> tuple[int, ...]:
    return tuple(sorted({_axis(name) for name in str(word).split("+")}))


def _axis(name: str) -> int:
    if name not in AXES:
        msg = f"the mirror {name!r} is none of {', '.join(AXES)}"
        raise ValueError(msg)
    return AXES[name]


def _calibration(row: Mapping[str, Any]) -> Calibration:
    _only(row, ("temperature", "dice", "agreement"), "calibration of a method")
    temperature = float(row.get("temperature", 1.0))
    if not temperature > 0:
        msg = f"a temperature is above 0, got {temperature:g}"
        raise ValueError(msg)
    dice = {str(name): (float(a), float(b)) for name, (a, b) in row.get("dice", {}).items()}
    return Calibration(temperature, dice, {str(name): float(v) for name, v in row.get("agreement", {}).items()})


def _only(table: Any, known: tuple[str, ...], where: str) -> None:
    if not isinstance(table, Mapping):
        msg = f"{where} must be a table"
        raise TypeError(msg)
    unknown = sorted(set(table) - set(known))
    if unknown:
        msg = f"{where} has {unknown[0]!r}, known are {', '.join(known)}"
        raise ValueError(msg)
