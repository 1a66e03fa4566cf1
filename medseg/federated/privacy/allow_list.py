"""The names, shapes and numbers that a site lets out: one readable file of its own, made from its own bundle.

`local/medseg_outgoing.json` is written when a site joins (or for `simulate`, when its folder is made), never from
anything that the server sends. Whoever answers for the site's data can read it, and shorten it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError
from medseg.writers.atomic import write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

#: Its name in a site's `local/`.
FILE = "medseg_outgoing.json"
_KEYS = {"parameters", "structures", "statistics"}


class OutgoingError(InputError):
    """Something that must not leave the site; it was not sent."""


@dataclass(frozen=True)
class AllowList:
    """What may leave a site.

    Args:
        parameters: name -> shape of every floating-point entry of the network's state dict.
        structures: names that may stand behind the slash of a metric, such as "dice/left".
        statistics: whether the site takes part in the comparison of data sets before training.
    """

    parameters: Mapping[str, tuple[int, ...]]
    structures: frozenset[str] = frozenset()
    statistics: bool = True


def allow_list_of(
    shapes: Mapping[str, Sequence[int]], structures: Iterable[str] = (), *, statistics: bool = True
) -> AllowList:
    """An allow list from names and shapes."""
    parameters = {str(name): tuple(int(n) for n in shape) for name, shape in shapes.items()}
    return AllowList(parameters, frozenset(structures), statistics)


def allow_list_of_bundle(bundle: str | Path, *, statistics: bool = True) -> AllowList:
    """An allow list from a bundle: the network that it trains is built, behind the gate, and asked.

    Raises:
        BundleError: MS-B1xx a bundle that cannot be opened.
    """
    from torch import nn

    from medseg.bundle.config import read_config
    from medseg.bundle.described import read_labels
    from medseg.bundle.load import build, open_config, running_trusted
    from medseg.bundle.shipped import find_bundle
    from medseg.bundle.trust import is_trusted
    from medseg.errors import BundleError

    root = find_bundle(bundle)
    metadata, config = read_config(root, "metadata"), read_config(root, "train")
    labels, trusted = read_labels(config, metadata, root), is_trusted(root)
    with running_trusted(root, trusted):
        network = build(open_config(root, config, metadata, trusted=trusted), ("network_def", "network"), root)
    if not isinstance(network, nn.Module):
        raise BundleError("MS-B106", "network_def builds no network", file=root, mend="type: medseg bundle check")
    shapes = {name: value.shape for name, value in network.state_dict().items() if value.is_floating_point()}
    return allow_list_of(shapes, [label.name for label in labels], statistics=statistics)


def write_allow_list(path: Path, allowed: AllowList) -> None:
    """Write an allow list for people and for the audit; errors as for `atomic_write`."""
    shapes = {name: list(shape) for name, shape in allowed.parameters.items()}
    content = {"statistics": allowed.statistics, "structures": sorted(allowed.structures), "parameters": shapes}
    write_json(path, content)


def read_allow_list(path: Path) -> AllowList:
    """Read a site's allow list.

    Raises:
        OutgoingError: MS-J110 it is missing, or not as medseg wrote it; nothing leaves without it.
    """
    try:
        said: Any = json.loads(path.read_text(encoding="utf-8"))
        if set(said) != _KEYS or not isinstance(said["statistics"], bool) or not said["parameters"]:
            msg = f"it must hold {', '.join(sorted(_KEYS))}"
            raise ValueError(msg)
        return allow_list_of(said["parameters"], map(str, said["structures"]), statistics=said["statistics"])
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise OutgoingError(
            "MS-J110",
            f"the list of what may leave this site cannot be used ({error}); nothing was sent",
            file=path,
            mend="join again, which writes it from the site's own bundle",
        ) from error
