"""Start from another network's weights: what fits by name and shape is taken, and what does not is named.

medseg's networks call the same parts by the same names, so a Mask R-CNN takes the encoder of a U-Net, and a U-Net for
other structures takes all but its head. Where no name fits as it stands, one leading name is exchanged for all: weights
saved as `module.encoder...` by another program fit `encoder...`, and those of a bare encoder `encoder.network...`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from medseg.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import Tensor, nn

COLUMNS = ("part", "fits", "other shape", "missing", "left over")
#: Names of parts in a table: so many words of a weight's name.
_WORDS = 2


@dataclass(frozen=True)
class Fit:
    """Which of a network's weights another network's fill.

    Args:
        fits: names that have the same shape in both.
        other_shape: name -> (shape there, shape here).
        missing: names that only this network has: they stay as they were drawn.
        extra: names that only the other has: they are left out.
        renamed: (what a name began with there, what it begins with here), ("", "") where names are the same.
    """

    fits: tuple[str, ...]
    other_shape: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    renamed: tuple[str, str] = ("", "")

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """A row for each part of the networks, see `COLUMNS`: how many tensors."""
        counts = [Counter(map(_part, names)) for names in (self.fits, self.other_shape, self.missing, self.extra)]
        parts = dict.fromkeys(part for count in counts for part in count)
        return [(part, *(str(count[part] or "") for count in counts)) for part in parts]  # type: ignore[misc]

    def table(self) -> str:
        """The rows as text, in columns."""
        rows = [COLUMNS, *self.rows()]
        widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)

    def words(self) -> str:
        """In a sentence."""
        rest = {"of another shape": self.other_shape, "missing": self.missing, "left over": self.extra}
        told = [f"{len(names)} {what} ({_some(names)})" for what, names in rest.items() if names]
        taken = f"{len(self.fits)} tensors taken"
        if self.renamed != ("", ""):
            taken += f", {self.renamed[0] or 'no prefix'} read as {self.renamed[1] or 'no prefix'}"
        return "; ".join([taken, *told])

    def to_json(self) -> dict[str, Any]:
        """Every name, as plain data."""
        return asdict(self)


def fit(network: nn.Module, state: Mapping[str, Tensor]) -> Fit:
    """Compare a network with a state dict."""
    own = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in state.items()}
    there, here = _exchange(own, theirs)
    found = {_named(name, there, here): shape for name, shape in theirs.items()}
    return Fit(
        fits=tuple(name for name in own if found.get(name) == own[name]),
        other_shape={name: (found[name], own[name]) for name in own if name in found and found[name] != own[name]},
        missing=tuple(name for name in own if name not in found),
        extra=tuple(name for name in theirs if _named(name, there, here) not in own),
        renamed=(there, here),
    )


def load_fitting(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> Fit:
    """Put what fits of a state dict into a network; the rest of the network stays as it is.

    Args:
        network: changed in place; numbers are converted to its types.
        state: of another network.
        path: where it is from, for messages.

    Raises:
        BundleError: MS-T170 nothing fits, or no weight that is learnt; MS-B114 a weight is not finite.
    """
    found = fit(network, state)
    learnt = {name for name, _ in network.named_parameters()}
    if not learnt.intersection(found.fits):
        raise BundleError(
            "MS-T170",
            f"none of its weights fits this network: {found.words()}",
            file=path,
            mend="start from a bundle whose network has the same parts (features, kernel_sizes), or without --init",
        )
    taken = {}
    for name, value in state.items():
        here = _named(name, *found.renamed)
        if here in set(found.fits):
            taken[here] = value
    broken = [name for name, value in taken.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if broken:
        raise BundleError("MS-B114", f"weights are not finite: {_some(broken)}", file=path, mend="train it anew")
    network.load_state_dict(taken, strict=False)
    return found


def _exchange(own: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[str, str]:
    """What names begin with there and here, ("", "") where some fit as they are or none fits in any way."""

    def fitting(there: str, here: str) -> int:
        return sum(
            name.startswith(there) and own.get(here + name.removeprefix(there)) == shape
            for name, shape in theirs.items()
        )

    if fitting("", ""):
        return "", ""
    pairs = [(there, here) for there in _beginnings(theirs) for here in _beginnings(own)]
    return max(pairs, key=lambda pair: (fitting(*pair), -len(pair[0]) - len(pair[1])), default=("", ""))


def _beginnings(names: Iterable[str]) -> list[str]:
    """What names begin with, up to two words, and nothing."""
    words = [name.split(".")[:-1] for name in names]
    return list(dict.fromkeys(["", *(".".join(w[:n]) + "." for n in (1, 2) for w in words if len(w) >= n)]))


def _named(name: str, there: str, here: str) -> str:
    return here + name.removeprefix(there) if name.startswith(there) else name


def _part(name: str) -> str:
    return ".".join(name.split(".")[:-1][:_WORDS]) or name


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
