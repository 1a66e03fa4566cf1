"""Where structures lie in the patient, and whether a site's labels say left where others, or their names, say right.

By name: a structure that is called left lies to the patient's left of its partner, in every case; RAS coordinates grow to
the right. By comparison: the structures' centres, each from the mean of all, are laid onto the others' centres as they are,
mirrored, and with two structures exchanged. What then fits more than twice as well is told.

Worked example: anterior at A +10 mm and posterior at A -10 mm, elsewhere -10 and +10. As they are they miss each other by
40 mm in all, exchanged by 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.federated.names import canonical, side_of
from medseg.federated.stats.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from medseg.federated.stats.fingerprint import Fingerprint, Structure

#: Share of the cases that may lie on the wrong side of their partner.
WRONG = 0.05
#: How much better another arrangement must fit, and how far apart (mm, and in their standard deviations) centres must be.
_BETTER, _APART_MM, _APART = 0.5, 2.0, 1.5
_MEND = (
    "exchange the values in the label maps, or look at the orientation in the headers: a structure whose side is known "
    "(liver right, spleen left) tells which of the two it is"
)


def sides(site: str, own: Fingerprint) -> list[Finding]:
    """Structures whose names say another side than that on which they lie."""
    found = []
    for one in own.structures:
        side = side_of(one.name)
        if side == "left" and one.mirror is not None and one.right is not None and one.right > WRONG:
            n = one.cases or own.cases
            what = f"{one.name!r} lies to the patient's right of {one.mirror!r} in {100 * one.right:.0f} % of {n} cases"
            found.append(Finding("MS-J155", "fail", site, what, _MEND, f"side {canonical(one)}"))
        elif side and one.mirror is None and one.offset_mm is not None:
            x = one.offset_mm[0]
            wrong = x.values[1] > 0 if side == "left" else x.values[-2] < 0  # nine of ten cases
            if wrong and abs(x.median) > _APART_MM:
                other = "right" if side == "left" else "left"
                what = f"{one.name!r} lies {abs(x.median):.0f} mm to the {other} of the body's middle"
                found.append(Finding("MS-J155", "warn", site, what, _MEND, f"side {canonical(one)}"))
    return found


def arrangement(site: str, own: Fingerprint, others: Fingerprint) -> list[Finding]:
    """Structures that fit the others' better when mirrored or exchanged; [] where names prove the sides of `own`."""
    both = _common(own.structures, others.structures)
    if len(both) < 2:
        return []
    ours, theirs = (_centred([pair[n] for pair in both]) for n in (0, 1))
    spread = _spread([pair[0] for pair in both], [pair[1] for pair in both])
    exchanged = list(_exchanged(site, both, ours, theirs, spread))
    mirrored = _mirrored(site, ours, theirs, spread)
    right = [one.right for one in own.structures if side_of(one.name) == "left" and one.right is not None]
    if right and max(right) <= WRONG:  # it is the others whose sides are wrong
        mirrored, exchanged = [], [one for one in exchanged if one.code != "MS-J155"]
    return mirrored or exchanged


def _common(own: Sequence[Structure], others: Sequence[Structure]) -> list[tuple[Structure, Structure]]:
    theirs = {canonical(one): one for one in others if one.offset_mm is not None}
    return [(one, theirs[canonical(one)]) for one in own if one.offset_mm is not None and canonical(one) in theirs]


def _centred(structures: Sequence[Structure]) -> np.ndarray:
    """(N, 3) medians of the centres, mm from their mean."""
    found = np.array([[axis.median for axis in one.offset_mm or ()] for one in structures])
    return found - found.mean(0)


def _spread(own: Sequence[Structure], others: Sequence[Structure]) -> float:
    """The typical standard deviation of a centre along an axis, mm; that of patients, whose bodies differ."""
    return float(np.median([axis.spread for one in (*own, *others) for axis in one.offset_mm or ()]))


def _mirrored(site: str, ours: np.ndarray, theirs: np.ndarray, spread: float) -> list[Finding]:
    flipped = ours * (-1, 1, 1)
    plain, mirrored = (float(np.linalg.norm(one - theirs, axis=1).sum()) for one in (ours, flipped))
    apart = float(np.abs(theirs[:, 0]).max())
    if apart <= max(_APART_MM, _APART * spread) or mirrored >= _BETTER * plain:
        return []
    what = f"its structures fit the others' when left and right are exchanged ({mirrored / len(ours):.1f} mm"
    what += f" apart instead of {plain / len(ours):.1f})"
    return [Finding("MS-J155", "fail", site, what, _MEND, "mirror")]


def _exchanged(
    site: str, both: Sequence[tuple[Structure, Structure]], ours: np.ndarray, theirs: np.ndarray, spread: float
) -> Iterable[Finding]:
    far = np.linalg.norm(ours[:, None] - theirs[None], axis=2)
    between = np.linalg.norm(theirs[:, None] - theirs[None], axis=2)
    plain = far.diagonal()[:, None] + far.diagonal()[None]
    swapped = far + far.T
    wrong = (swapped < _BETTER * plain) & (between > max(_APART_MM, _APART * spread))
    wrong &= plain > between  # a pair that lies where it should, or a little off, is not exchanged
    for i, j in np.argwhere(np.triu(wrong, 1)):
        a, b = both[i][0], both[j][0]
        pair = a.mirror == b.name or (side_of(a.name) and side_of(a.name) != side_of(b.name))
        what = f"{a.name!r} lies where {b.name!r} lies elsewhere, and the other way round"
        what += f" ({swapped[i, j] / 2:.1f} mm apart instead of {plain[i, j] / 2:.1f})"
        topic = f"exchanged {canonical(a)} {canonical(b)}"
        yield Finding("MS-J155" if pair else "MS-J156", "fail", site, what, _MEND, topic)
