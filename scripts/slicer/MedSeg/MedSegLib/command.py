"""The command line of a prediction."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from MedSegLib.errors import MedSegError

if TYPE_CHECKING:
    from pathlib import Path

#: What `--uncertainty` takes, beside mc:N.
METHODS = ("tta", "ensemble", "ensemble+tta")


@dataclass(frozen=True)
class Options:
    """What the user chose.

    Args:
        bundle: a shipped name, or the folder of a bundle.
        uncertainty: "" for none, "mc:N" (N runs with dropout), or one of `METHODS`.
        device: "auto", "cpu" or "cuda".
        outside_domain: segment scans unlike the training data too; the outputs are marked.
    """

    bundle: str
    uncertainty: str = ""
    device: str = "auto"
    outside_domain: bool = False


def predict_command(medseg: list[str], scan: Path, out: Path, options: Options) -> list[str]:
    """The words that segment `scan` into the folder `out`.

    Raises:
        MedSegError: no bundle was chosen, or the uncertainty is none that medseg knows.
    """
    if not options.bundle.strip():
        what = "no bundle is chosen"
        raise MedSegError(what, "choose one in the list, or the folder of one")
    words = [*medseg, "predict", str(scan), "-o", str(out), "-b", options.bundle.strip(), "--json"]
    if options.uncertainty:
        words += ["--uncertainty", checked_uncertainty(options.uncertainty)]
    if options.device != "auto":
        words += ["--device", options.device]
    if options.outside_domain:
        words.append("--outside-domain")
    return words


def checked_uncertainty(text: str) -> str:
    """`text`, when it is "mc:N" with N >= 2 or one of `METHODS`; MedSegError otherwise."""
    runs = re.fullmatch(r"mc:(\d+)", text)
    if text in METHODS or (runs and int(runs[1]) >= 2):
        return text
    what = f"'{text}' is no way to find uncertainty"
    raise MedSegError(what, f"choose mc:N with N of 2 or more, {', '.join(METHODS[:-1])} or {METHODS[-1]}")
