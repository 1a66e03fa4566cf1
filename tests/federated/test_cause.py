"""Which refusal of medseg's stands behind an error."""

from __future__ import annotations

from medseg.errors import InputError
from medseg.federated.cause import cause_of


def test_it_is_found_however_deep():
    refusal = InputError("MS-T103", "no such folder", mend="give another")
    try:
        try:
            raise refusal
        except InputError as error:
            raise RuntimeError("MONAI: a component") from error
    except RuntimeError as error:
        middle = error
    outer = RuntimeError("applying transform")
    outer.__cause__ = middle
    assert cause_of(outer) is cause_of(refusal) is refusal
    assert cause_of(ValueError("a bug")) is None
