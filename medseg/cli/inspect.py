"""`medseg inspect PATH`: what is there, and what would become of it; nothing is segmented."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from medseg.cli import options
from medseg.cli.console import show_json, show_table

if TYPE_CHECKING:
    from medseg.readers.finding import Finding


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
    from medseg.readers.open import survey

    reading = options.read_options(series, assume_orientation, allow_gaps, nonfinite, strict, max_voxels, segments)
    findings = survey(path, reading)
    if json:
        show_json([asdict(finding) | {"refused": finding.refused} for finding in findings])
    else:
        show_table(
            ["name", "format", "shape", "spacing mm", "axes", "files", "verdict", "notes"],
            [_row(finding) for finding in findings],
        )
    refused = sum(finding.refused for finding in findings)
    raise typer.Exit(0 if not refused else 3 if refused == len(findings) else 6)


def _row(finding: Finding) -> list[str]:
    notes = [finding.message] if finding.message else []
    notes += [f"{decision.code} {decision.message}" for decision in finding.decisions]
    if finding.series is not None:
        notes.append(f"--series {finding.series}")
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
