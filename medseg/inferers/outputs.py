"""Which tensor of a network's output is segmented.

A tensor is taken as it is; of a dictionary the entry "pred", else the first; of a tuple or list the first (networks
with deep supervision put the full resolution first).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from medseg.errors import UsageError


def full_resolution(output: object, windows: Tensor) -> Tensor:
    """The output that is blended: (N, K, *roi) for windows (N, C, *roi).

    Raises:
        UsageError: MS-U144 where it has another shape than the windows.
    """
    tensor = segmented(output)
    if tensor is None:
        raise _refused(type(output).__name__, windows)
    if tensor.ndim != windows.ndim or tensor.shape[0] != windows.shape[0] or tensor.shape[2:] != windows.shape[2:]:
        raise _refused("Tensor", windows, tuple(tensor.shape))
    return tensor


def segmented(output: object) -> Tensor | None:
    """The tensor of an output that is segmented, whatever its shape; None where there is none."""
    while not isinstance(output, Tensor):
        if isinstance(output, Mapping) and output:
            output = output["pred"] if "pred" in output else next(iter(output.values()))
        elif isinstance(output, Sequence) and not isinstance(output, str) and output:
            output = output[0]
        else:
            return None
    return output


def _refused(kind: str, windows: Tensor, shape: tuple[int, ...] | None = None) -> UsageError:
    found = f"a {kind}" if shape is None else f"a {kind} of shape {shape}"
    what = f"the network returned {found} for windows of shape {tuple(windows.shape)}"
    mend = "return (batch, classes, *window) at full resolution: alone, first in a list, or as 'pred' in a dictionary"
    return UsageError("MS-U144", what, mend=mend)
