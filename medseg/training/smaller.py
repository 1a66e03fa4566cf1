"""A network of the same form with fewer weights: the same levels, each with fewer channels.

Weights grow with the square of the width, so a third of them means channels of about 0.58.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch

from medseg.bundle.load import build, open_config
from medseg.bundle.trust import is_trusted
from medseg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: What networks call the channels of their levels: medseg's own, and MONAI's UNet.
_WIDTHS = ("features", "channels")
#: A level is never thinner; and widths are multiples of this.
_LEAST, _STEP = 4, 2


def smaller(config: Mapping[str, Any], root: Path, by: float) -> dict[str, list[int]]:
    """Widths with which a network has at most 1 / `by` of its weights, as an override of the config.

    Args:
        config: of a bundle, with `network_def`.
        root: its folder.
        by: how many times fewer, above 1.

    Returns:
        `{"network_def#features": [...]}`, or of `channels`.

    Raises:
        UsageError: MS-T177 the network has no list of widths, or none is so small.
    """
    name = next((n for n in _WIDTHS if isinstance((config.get("network_def") or {}).get(n), list)), None)
    if name is None or by <= 1:
        what = f"--smaller {by:g}" if by <= 1 else "network_def has no `features` or `channels` to make smaller"
        mend = (
            "give a number above 1" if by <= 1 else "make network_def smaller by hand, in train.json and inference.json"
        )
        raise UsageError("MS-T177", what, mend=mend)
    widths = config["network_def"][name]
    most = weights_of(config, root) / by
    tried = None
    for percent in range(99, 0, -1):
        thinner = [max(_LEAST, round(width * percent / 100 / _STEP) * _STEP) for width in widths]
        if thinner == tried:
            continue
        tried = thinner
        if weights_of({**config, "network_def": config["network_def"] | {name: thinner}}, root) <= most:
            return {f"network_def#{name}": thinner}
    raise UsageError(
        "MS-T177", f"no network of this form has {by:g} times fewer weights", mend="give --smaller a smaller number"
    )


def weights_of(config: Mapping[str, Any], root: Path) -> int:
    """How many numbers the network of a config learns; none of them takes memory. Overrides (`a#b`) are not looked at."""
    plain = {name: deepcopy(value) for name, value in config.items() if "#" not in name}
    parser = open_config(root, plain, {}, trusted=is_trusted(root))
    with torch.device("meta"):
        network = build(parser, ("network_def",), root)
    return sum(weight.numel() for weight in network.parameters())
