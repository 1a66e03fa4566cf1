"""Where a training together begins: the weights that `medseg train` would begin with, or those of another bundle."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from medseg.bundle.config import read_config
from medseg.bundle.load import build, open_config, running_trusted
from medseg.bundle.shipped import find_bundle
from medseg.bundle.trust import is_trusted
from medseg.bundle.weights import read_weights, require_weights
from medseg.errors import BundleError
from medseg.training.transfer import load_fitting

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor


@dataclass(frozen=True)
class Initial:
    """A network before the first round.

    Args:
        state: its whole state dict, on the CPU.
        parameters: names of the entries that learn by gradients; the others are buffers.
    """

    state: dict[str, Tensor]
    parameters: frozenset[str]


def initial_state(
    bundle: str | Path, *, overrides: Mapping[str, Any] | None = None, init: str | Path | None = None
) -> Initial:
    """Build the network of train.json from its seed; no case is needed.

    Args:
        bundle: folder or shipped name.
        overrides: `id -> value` of train.json.
        init: another bundle, whose weights are put in as far as they fit.

    Raises:
        BundleError: what the gate refuses; MS-B106 train.json has no network; MS-B110 `init` has no weights.
    """
    root = find_bundle(bundle)
    trusted = is_trusted(root)
    config, metadata = read_config(root, "train"), read_config(root, "metadata")
    with running_trusted(root, trusted), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parser = open_config(root, config, metadata, trusted=trusted, overrides=overrides)
        if "initialize" in parser:
            parser.get_parsed_content("initialize")
        network = build(parser, ("network_def", "network"), root)
        if not isinstance(network, nn.Module):
            what, mend = "configs/train has no `network_def`", "medseg bundle check lists what a bundle needs"
            raise BundleError("MS-B106", what, file=root, mend=mend)
        if init is not None:
            path = require_weights(find_bundle(init))
            load_fitting(network, read_weights(path), path)
    state = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
    return Initial(state, frozenset(name for name, _ in network.named_parameters()))
