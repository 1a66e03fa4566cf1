"""A colour and a name for each instance, so that neighbours are told apart in every viewer.

The seven hues of `labels.PALETTE` (colour-blind safe) come in turn; with each round they are lighter or darker, so that
35 instances differ before a colour comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.labels import PALETTE, Label, LabelTable

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Of each round, how far from the hue towards white (above 0) or black (below 0).
ROUNDS = (0.0, 0.45, -0.35, 0.7, -0.6)


def instance_colour(number: int) -> tuple[int, int, int]:
    """(red, green, blue), 0-255, of the instance of this number, from 0."""
    turn, place = divmod(number, len(PALETTE))
    share = ROUNDS[turn % len(ROUNDS)]
    end = 255 if share > 0 else 0
    red, green, blue = (round(c + (end - c) * abs(share)) for c in PALETTE[place])
    return red, green, blue


def instance_table(instances: Iterable[tuple[int, int]], classes: LabelTable) -> LabelTable:
    """A label table with one label an instance: name "<class> <id>", a colour of its own, the codes of its class.

    Args:
        instances: (id, class value) of each.
        classes: what the class values mean; one that it does not know is "label <value>".
    """
    return LabelTable(tuple(_label(number, value, classes) for number, value in instances))


def _label(number: int, value: int, classes: LabelTable) -> Label:
    of = classes.by_value.get(value)
    name, colour = f"{f'label {value}' if of is None else of.name} {number}", instance_colour(number - 1)
    if of is None:
        return Label(number, name, colour)
    return Label(number, name, colour, of.category, of.type, of.modifier)
