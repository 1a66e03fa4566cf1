"""`medseg bundle export BUNDLE`: its network as files that run without torch, each checked against torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli import options
from medseg.cli.console import show_json, show_lines, show_table, stderr

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medseg.bundle.export import Exported


def export(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", show_default=False, help="A bundle's folder or a shipped name.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="INPUT",
            help="A scan or a folder of scans to check on; the demo's, for its bundle.",
            show_default=False,
        ),
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option("--format", metavar="pt2,onnx,openvino", help="Which of them.", show_default="all"),
    ] = None,
    members: Annotated[bool, typer.Option("--members", help="The other networks of its ensemble too.")] = False,
    threads: options.Threads = None,
    json: options.Json = False,
) -> None:
    """Export the network to torch.export, ONNX and OpenVINO files in the bundle's models/.

    A file is kept only where it gives torch's labels on windows of real scans. `medseg predict --engine onnx` (or
    openvino) uses it. ONNX and OpenVINO need the extra `export` of medseg.
    """
    from medseg.workflows.export import export as run

    with stderr().status("loading") as status:
        report = run(bundle, data=data, formats=formats, members=members, threads=threads, hear=status.update)
    columns = ("file", "takes", "labels equal", "of foreground", "logits differ by", "MB", "ms a patch", "torch fp32")
    show_table(columns, _rows(report.exported), title=str(report.root))
    if report.left_out:
        show_lines([f'left out: {", ".join(report.left_out)} -> pip install "medseg[export]"'])
    if report.trusted:
        show_lines([f"new files withdraw your trust in the bundle -> medseg bundle trust {report.root}"])
    engines = [row.format for row in report.exported if row.format != "pt2"]
    if engines:
        show_lines([f"next: medseg predict SCANS -b {report.root} -o OUT --engine {engines[0]}"])
    if json:
        show_json(report.to_json())


def _rows(exported: Sequence[Exported]) -> Iterator[tuple[str, ...]]:
    for row in exported:
        checked = row.checked
        yield (
            ", ".join(row.files),
            " x ".join("any" if n is None else str(n) for n in row.takes),
            f"{checked.labels_equal:.4%} of {checked.voxels}",
            f"{checked.foreground_equal:.3%} of {checked.foreground}",
            f"{checked.largest_difference:.1e}",
            f"{row.megabytes:.1f}",
            f"{checked.ms:.0f}",
            f"{row.torch_ms:.0f}",
        )
