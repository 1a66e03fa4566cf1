from __future__ import annotations

import re

from medseg.reports.pooled import pooled

LINE = {"structure": "<nucleus>", "metric": "map@0.1:0.5iou", "value": 0.5, "low": 0.25, "high": 0.75}
BESIDE = {"other": 0.4, "difference": 0.1, "difference_low": -0.05, "difference_high": 0.2}


def cells(page):
    return [re.sub(r"<[^>]+>", "", c) for c in re.findall(r"<t[dh] [^>]*>(.*?)</t[dh]>", page)]


def test_without_lines_nothing_is_shown():
    assert pooled([]) == ""


def test_alone():
    assert cells(pooled([LINE])) == [
        "Structure", "Metric", "Value", "Interval", "&lt;nucleus&gt;", "mAP at 0.1:0.5 iou", "0.500", "0.250 to 0.750",
    ]  # fmt: skip


def test_beside_another_and_a_line_that_the_other_lacks():
    found = cells(pooled([LINE | BESIDE, LINE]))
    assert found[4:7] == ["Other", "Difference", "Its interval"]
    assert found[11:14] == ["0.400", "0.100", "−0.050 to 0.200"]
    assert found[18:] == ["n/a", "n/a", "n/a to n/a"]
