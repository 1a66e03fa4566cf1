"""`medseg bundles`: the models that come with medseg."""

from __future__ import annotations

from dataclasses import asdict

from medseg.cli.console import show_json, show_lines, show_table
from medseg.cli.options import Json


def bundles(json: Json = False) -> None:
    """List the shipped bundles: what each needs, what it finds, and how good it is."""
    from medseg.workflows.catalogue import list_bundles

    entries = list_bundles()
    if json:
        show_json([asdict(entry) for entry in entries])
        return
    rows = [
        (
            entry.name,
            entry.version if entry.weights else f"{entry.version}, a recipe: no weights",
            entry.needs,
            entry.finds,
            "\n".join(f"{key} {_number(value)}" for key, value in entry.scores.items()),
        )
        for entry in entries
    ]
    show_table(["bundle", "version", "needs", "finds", "scores"], rows)
    show_lines(f"{entry.name}: {entry.intended_use}" for entry in entries if entry.intended_use)


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
