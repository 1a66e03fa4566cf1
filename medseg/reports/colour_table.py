"""The colours of uncertainty, and 3D Slicer's file for them (.ctbl).

Slicer's own Inferno is a file of its installation that other programs on its libraries lack, so the scene brings its
colours along.
"""

from __future__ import annotations

#: Perceptually uniform and readable in grey print and by colour-blind readers.
COLOURMAP = "inferno"
SIZE = 256


def colours() -> list[tuple[int, int, int]]:
    """`SIZE` colours (red, green, blue), 0-255, from certain to uncertain."""
    from matplotlib import colormaps

    table = colormaps[COLOURMAP].resampled(SIZE)
    return [(int(r), int(g), int(b)) for r, g, b, _ in (table(index, bytes=True) for index in range(SIZE))]


def colour_table_text() -> str:
    """A .ctbl file: a line `index name red green blue alpha` each; names hold no spaces."""
    lines = [f"{n} {n / (SIZE - 1):.3f} {r} {g} {b} 255" for n, (r, g, b) in enumerate(colours())]
    return "\n".join(["# Color table file", f"# {SIZE} values", *lines]) + "\n"
