"""The names, shapes and numbers that a site lets out: made from the site's own bundle, never from what a server sends.

Where the site has the file `local/medseg_outgoing.json`, that is the list: whoever answers for the site's data can read it
and shorten it. Without it the list is made of the bundle that the site's own `local/medseg_site.yaml` names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError, MedsegError
from medseg.writers.atomic import write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

#: Its name in a site's `local/`, and that of the file which names the site's bundle.
FILE, SITE_FILE = "medseg_outgoing.json", "medseg_site.yaml"
_MEND = "type medseg federate join again, or delete the file: the list is then made of the site's own bundle"
#: Where a recipe's evaluator is told its metrics, `{name: metric}`.
_METRICS = ("validate#key_metric", "validate#evaluator#additional_metrics")
_KEYS = {"parameters", "metrics", "structures", "statistics"}


class OutgoingError(InputError):
    """Something that must not leave the site; it was not sent."""


@dataclass(frozen=True)
class AllowList:
    """What may leave a site.

    Args:
        parameters: name -> shape of every floating-point entry of the network's state dict.
        metrics: names of the bundle's own metrics, such as "val_mean_dice"; those of medseg are in `outgoing`.
        structures: names that may stand behind the slash of a metric, such as "val_mean_dice/left".
        statistics: whether the site takes part in the comparison of data sets before training.
    """

    parameters: Mapping[str, tuple[int, ...]]
    metrics: frozenset[str] = frozenset()
    structures: frozenset[str] = frozenset()
    statistics: bool = True


def allow_list_of(
    shapes: Mapping[str, Sequence[int]],
    *,
    metrics: Iterable[str] = (),
    structures: Iterable[str] = (),
    statistics: bool = True,
) -> AllowList:
    """An allow list from names and shapes; arguments as for `AllowList`."""
    parameters = {str(name): tuple(int(n) for n in shape) for name, shape in shapes.items()}
    return AllowList(parameters, frozenset(metrics), frozenset(structures), statistics)


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
    from medseg.training.random_state import random_state, set_random_state

    root = find_bundle(bundle)
    metadata, config = read_config(root, "metadata"), read_config(root, "train")
    labels, trusted = read_labels(config, metadata, root), is_trusted(root)
    random = random_state()  # a network draws its first weights; the training beside it must not notice
    try:
        with running_trusted(root, trusted):
            parser = open_config(root, config, metadata, trusted=trusted)
            network = build(parser, ("network_def", "network"), root)
            scores = [build(parser, (key,), root) for key in _METRICS]
    finally:
        set_random_state(random)
    if not isinstance(network, nn.Module):
        raise BundleError("MS-B106", "network_def builds no network", file=root, mend="type: medseg bundle check")
    shapes = {name: value.shape for name, value in network.state_dict().items() if value.is_floating_point()}
    metrics = [str(name) for score in scores if isinstance(score, dict) for name in score]
    return allow_list_of(shapes, metrics=metrics, structures=[label.name for label in labels], statistics=statistics)


def write_allow_list(path: Path, allowed: AllowList) -> None:
    """Write an allow list for people and for the audit; errors as for `atomic_write`."""
    shapes = {name: list(shape) for name, shape in allowed.parameters.items()}
    content = {
        "statistics": allowed.statistics,
        "metrics": sorted(allowed.metrics),
        "structures": sorted(allowed.structures),
        "parameters": shapes,
    }
    write_json(path, content)


def site_allow_list(local: Path) -> AllowList:
    """What may leave the site whose `local/` this is: its own list, else what its own bundle needs.

    Raises:
        OutgoingError: MS-J110 its list is damaged, or there is none and no bundle to make it of.
    """
    if (local / FILE).exists():
        return read_allow_list(local / FILE)
    import yaml

    try:
        said = yaml.safe_load((local / SITE_FILE).read_text(encoding="utf-8"))
        return allow_list_of_bundle(said["bundle"])
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError, MedsegError) as error:
        # Only the kind of error: its text could name a folder, and this one goes into the manifest.
        what = f"there is no list of what may leave this site, nor a bundle to make it of ({type(error).__name__})"
        raise OutgoingError("MS-J110", f"{what}; nothing was sent", file=local, mend=_MEND) from error


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
        names = {key: [str(name) for name in said[key]] for key in ("metrics", "structures")}
        return allow_list_of(said["parameters"], **names, statistics=said["statistics"])
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise OutgoingError(
            "MS-J110",
            f"the list of what may leave this site cannot be used ({error}); nothing was sent",
            file=path,
            mend=_MEND,
        ) from error
