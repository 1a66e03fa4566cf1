from __future__ import annotations

from medseg.transforms.intensity import Contrast
from medseg.transforms.record import note


def test_rows_are_plain_data_and_the_list_before_is_not_changed():
    first: list = []
    data = {"record": first}
    note(data, "record", Contrast(1.5), keys=["image"], channel=0)
    note(data, None, Contrast(2.0), keys=["image"], channel=1)
    assert first == []
    assert data["record"] == [{"choice": "Contrast", "keys": ["image"], "channel": 0, "values": {"factor": 1.5}}]
