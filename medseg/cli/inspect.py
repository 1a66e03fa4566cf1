"""`medseg inspect PATH`: what is there, and what would become of it; nothing is segmented."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from medseg.cli import options
from medseg.cli.console import show_json, show_lines, show_table

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from medseg.readers.finding import Finding

#: A note that at least so many scans share stands once, below the table.
REPEATED = 3


def inspect(
    path: options.Input,
    series: options.Series = None,
    assume_orientation: options.AssumeOrientation = None,
    allow_gaps: options.AllowGaps = False,
    nonfinite: options.Nonfinite = "refuse",
    max_voxels: options.MaxVoxels = 2**31,
    segments: options.Segments = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """List the scans in a file or folder with a verdict on each; exits 6 if some, 3 if all would be refused."""
    from medseg.readers.cases import survey_input

    reading = options.read_options(series, assume_orientation, allow_gaps, nonfinite, strict, max_voxels, segments)
    findings = survey_input(path, reading)
    if json:
        show_json([asdict(finding) | {"refused": finding.refused} for finding in findings])
    else:
        common = _common(findings)
        show_table(
            ["name", "format", "shape", "spacing mm", "axes", "files", "verdict", "notes"],
            [_row(finding, common) for finding in findings],
        )
        show_lines(f"{note} ({count} scans)" for note, count in common.items())
        if len(pick := [finding for finding in findings if finding.series is not None]) > 1:
            show_lines(["to take one of the series:", *(f"  --series {f.series}   {f.name}" for f in pick)])
    refused = sum(finding.refused for finding in findings)
    raise typer.Exit(0 if not refused else 3 if refused == len(findings) else 6)


def _notes(finding: Finding) -> list[str]:
    return [f"{decision.code} {decision.message}" for decision in finding.decisions]


def _common(findings: Sequence[Finding]) -> dict[str, int]:
    """Notes that stand on every scan that has any, and on how many: they are said once, below the table."""
    counts = Counter(note for finding in findings for note in _notes(finding))
    noted = sum(bool(finding.decisions) for finding in findings)
    return {note: count for note, count in counts.items() if count == noted >= REPEATED}


def _row(finding: Finding, common: Container[str]) -> list[str]:
    notes = [finding.message] if finding.message else []
    notes += [note for note in _notes(finding) if note not in common]
    return [
        finding.name,
        " ".join(filter(None, [finding.format, finding.modality])),
        "x".join(str(n) for n in finding.shape or ()),
        " x ".join(f"{mm:.4g}" for mm in finding.spacing_mm or ()),
        finding.axcodes or "",
        str(finding.files),
        finding.verdict if finding.code is None else f"{finding.verdict}: {finding.code}",
        "\n".join(filter(None, [finding.description, *notes])),
    ]
