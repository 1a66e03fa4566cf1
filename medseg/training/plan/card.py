"""docs/ of a planned bundle: the model card, and the report that says every decision and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.labels import LabelTable
    from medseg.training.plan.choice import Choice
    from medseg.training.plan.look import Facts
    from medseg.training.plan.problems import Problem

REPORT = "docs/plan.md"


def model_card(name: str, description: str, bundle: str, cases: int, said: Mapping[str, Any]) -> str:
    """docs/README.md."""
    source = str(said.get("description") or said.get("name") or "your own").strip()
    return f"""# {name}

## Description

{description} A recipe, planned from {cases} labelled cases by `medseg plan`: it has no weights yet.
[plan.md](plan.md) says what was measured, what was decided, and why.

**For research use only. Not a medical device; not for diagnosis or treatment.**

## Data

{source}. The cases that validate are named under `validation` in `configs/train.json`.

## Training

    medseg train {bundle} DATA -o RUN --minutes 60
    medseg predict SCANS -b RUN -o OUT
    medseg evaluate OUT LABELS -o SCORES

DATA is what was given to `medseg plan`. `python -m monai.bundle run` runs the same `configs/train.json`.

## Performance

Not trained yet.

## Limits

The network knows scans like those it is trained with: `medseg predict` refuses others by the `domain` that training
declares. Nothing is known of how it does elsewhere.

## Licence

Of your weights: as your data (`data_license.txt`). Of the configuration: Apache-2.0 (`LICENSE`).
"""


def data_license(said: Mapping[str, Any]) -> str:
    """docs/data_license.txt."""
    licence = said.get("licence") or said.get("license")
    if licence:
        return f"dataset.json names the licence of the data: {licence}\nThe licence of your weights follows from it.\n"
    return "No weights are in this bundle yet, so no data went into it. The licence of your weights follows from your data.\n"


def plan_report(
    name: str,
    command: str,
    facts: Sequence[Facts],
    table: LabelTable,
    choices: Sequence[Choice],
    notes: Sequence[Problem],
    *,
    instances: bool = False,
    annotators: str = "",
) -> str:
    """docs/plan.md: decisions with their reasons, what was measured, what is worth a look.

    Args:
        name: of the bundle.
        command: how it was planned.
        facts: of all cases.
        table: structures.
        choices: decisions.
        notes: what the check found and let pass.
        instances: forms are those of instances.
        annotators: what is said of them; '' where there is one label map a case.
    """
    parts = [
        f"# Plan of {name}\n\n    {command}\n",
        "## Decisions\n\n" + markdown_table(("what", "chosen", "why"), [(c.topic, c.value, c.why) for c in choices]),
        f"## What was measured: {len(facts)} cases\n\n"
        + markdown_table(("", "lowest", "median", "highest"), _measured(facts)),
    ]
    rows = _instances(facts) if instances else _structures(facts, table)
    columns = ("structure", "cases", "volume, mL (median)", "pieces (median)", "radius, mm", "form")
    parts.append(("## Instances\n\n" if instances else "## Structures\n\n") + markdown_table(columns, rows))
    if annotators:
        parts.append("## Annotators\n\n" + annotators)
    if notes:
        told = [(note.case, note.code, note.what, note.mend) for note in notes]
        parts.append("## Worth a look\n\n" + markdown_table(("case", "code", "what", "mend"), told))
    else:
        parts.append("## Worth a look\n\nThe check of the dataset found nothing.\n")
    return "\n".join(parts)


def _measured(facts: Sequence[Facts]) -> list[tuple[str, ...]]:
    out = []
    for title, values in (
        ("voxels, R-L x A-P x S-I", np.array([one.shape for one in facts], float)),
        ("voxel size, mm", np.array([one.spacing_mm for one in facts])),
        ("field of view, mm", np.array([one.extent_mm for one in facts])),
    ):
        out.append((title, *(" x ".join(f"{v:.4g}" for v in row) for row in _three(values))))
    for number in range(len(facts[0].grey)):
        for title, values in (
            ("least grey value", np.array([[one.grey[number].low] for one in facts])),
            ("greatest grey value", np.array([[one.grey[number].high] for one in facts])),
            ("share of zeros", np.array([[one.grey[number].zeros] for one in facts])),
        ):
            where = f"channel {number}: " if len(facts[0].grey) > 1 else ""
            out.append((where + title, *(f"{row[0]:.4g}" for row in _three(values))))
    return out


def _three(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return values.min(0), np.median(values, axis=0), values.max(0)


def _structures(facts: Sequence[Facts], table: LabelTable) -> list[tuple[str, ...]]:
    rows = []
    for label in table:
        forms = [[one.forms[v] for v in (label.region or (label.value,)) if v in one.forms] for one in facts]
        held = [each for each in forms if each]
        if not held:
            rows.append((f"{label.value} {label.name}", f"0 of {len(facts)}", "-", "-", "-", "-"))
            continue
        volume = np.median([sum(sum(form.pieces_ml) for form in each) for each in held])
        pieces = np.median([sum(len(form.pieces_ml) for form in each) for each in held])
        radius = np.median([max(form.radius_mm for form in each) for each in held])
        tube = np.mean([any(form.tube for form in each) for each in held]) > 0.5
        cells = (
            f"{len(held)} of {len(facts)}",
            f"{volume:.4g}",
            f"{pieces:.3g}",
            f"{radius:.3g}",
            "tube" if tube else "solid",
        )
        rows.append((f"{label.value} {label.name}", *cells))
    return rows


def _instances(facts: Sequence[Facts]) -> list[tuple[str, ...]]:
    forms = [form for one in facts for form in one.forms.values()]
    sizes = np.array([form.size_mm for form in forms])
    counts = [len(one.forms) for one in facts]
    volume = np.median([sum(form.pieces_ml) for form in forms])
    box = " x ".join(f"{v:.3g}" for v in np.median(sizes, axis=0))
    radius = np.median([form.radius_mm for form in forms])
    one = (
        f"{len(facts)}",
        f"{volume:.4g}",
        f"{np.median([len(f.pieces_ml) for f in forms]):.3g}",
        f"{radius:.3g}",
        f"box {box} mm",
    )
    return [(f"{len(forms)} instances, {min(counts)} to {max(counts)} a case", *one)]


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of GitHub's Markdown."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += [
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows
    ]
    return "\n".join(lines) + "\n"
