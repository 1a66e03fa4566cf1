#!/usr/bin/env python
"""Draws MedSeg/Resources/Icons/MedSeg.png: a slice, an outline in it, and where the outline is unsure.

scripts/slicer/draw_icon.py        (needs matplotlib)
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

ICON = Path(__file__).parent / "MedSeg" / "Resources" / "Icons" / "MedSeg.png"


def main() -> None:
    y, x = np.mgrid[-1:1:512j, -1:1:512j]
    angle = np.arctan2(y, x)
    body = np.hypot(x / 0.92, y / 0.80)
    organ = np.hypot(x + 0.08, y - 0.04) / (0.46 + 0.06 * np.cos(3 * angle + 0.7))
    grey = np.where(body < 1, 0.30 + 0.25 * (1 - body), np.nan)
    grey = np.where(organ < 1, 0.68, grey)
    unsure = np.exp(-(((organ - 1) / 0.16) ** 2)) * np.clip(np.cos(angle + 0.6), 0, 1) ** 2
    figure = plt.figure(figsize=(1.28, 1.28), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
    axes.imshow(np.ma.masked_less(unsure, 0.08), cmap="inferno", vmin=0, vmax=1, interpolation="bilinear")
    axes.contour(organ, levels=[1.0], colors=["#2fd07a"], linewidths=2.5)
    figure.savefig(ICON, transparent=True)


if __name__ == "__main__":
    main()
