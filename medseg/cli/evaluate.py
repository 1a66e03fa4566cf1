"""`medseg evaluate PRED REF -o OUT`: predictions against references, every metric named with its definition."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medseg.cli import options
from medseg.cli.console import show_json, show_lines, show_table, stderr
from medseg.errors import UsageError

if TYPE_CHECKING:
    from medseg.metrics.table import Aggregate
    from medseg.workflows.evaluate import Evaluation
    from medseg.workflows.evaluation.pairs import Pairs

_SHOWN = 10


def evaluate(
    pred: Annotated[
        Path,
        typer.Argument(
            metavar="PRED", show_default=False, help="A label map, a folder of them, or a `predict` folder."
        ),
    ],
    ref: Annotated[
        Path, typer.Argument(metavar="REF", show_default=False, help="The references, matched by case name.")
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="OUT", show_default=False, help="Folder for tables and report.")
    ],
    protocol: Annotated[
        str | None,
        typer.Option(
            "-c",
            "--protocol",
            metavar="PROTOCOL",
            help="default, brats, lesion, lung_nodule, instances or a YAML file.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="MAP", help="liver=5,tumour=6, liver=5:1 (PRED:REF), or a JSON or YAML file."),
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option("--cases", metavar="CSV", help="Columns case, subject, session and any to group by."),
    ] = None,
    group_by: Annotated[
        str | None, typer.Option("--group-by", metavar="COLUMN", help="Every metric per group, such as site or sex.")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option("--compare", metavar="OTHER", help="Other predictions of the same references.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="The scans, for the report's pictures.")
    ] = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="Put predictions from another grid onto the reference's; recorded.")
    ] = False,
    case_key: options.CaseKey = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the evaluation in OUT.")] = False,
    json: options.Json = False,
) -> None:
    """Score predictions against references: overlap, surfaces, instances, with intervals and a report.

    Writes cases.csv, summary.json and report.html. A missing prediction counts as a failure, never as nothing.
    With -c instances the maps hold instances (ids), as `predict` writes them with an instance bundle (instances.nii.gz);
    classes and scores stand in the JSON beside each map.
    """
    from medseg.workflows.evaluate import evaluate as run

    with _bar() as hear:
        found = run(
            pred, ref, out, protocol=protocol, labels=None if labels is None else read_labels(labels), cases=cases,
            group_by=group_by, compare=compare, images=images, resample=resample, case_key=case_key,
            overwrite=overwrite, announce=_announce, progress=hear,
        )  # fmt: skip
    _show(found, out)
    if json:
        from medseg.workflows.evaluation.files import in_json

        show_json(in_json(found.to_json()))
    raise typer.Exit(found.exit_code)


def read_labels(text: str) -> dict[str, Any]:
    """`--labels` as a mapping: 'liver=5,tumour=6:2', several values as 'tumour=1+3', or the name of a file.

    Raises:
        UsageError: MS-U165 it is neither.
    """
    path = Path(text)
    if path.suffix.lower() in (".json", ".yaml", ".yml"):
        import yaml

        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise _refused(text, f"the file cannot be read ({str(error).splitlines()[0]})") from error
        if not isinstance(content, dict) or not content:
            raise _refused(text, "the file holds no mapping of names to values")
        return content
    out: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, rule = part.partition("=")
        if not equals or not name.strip() or not rule.strip():
            raise _refused(text, f"{part.strip()!r} is not NAME=VALUE")
        in_pred, apart, in_ref = rule.partition(":")
        if name.strip() in out:
            raise _refused(text, f"{name.strip()!r} stands twice, several values of one are {name.strip()}=1+3")
        if not in_pred.strip() or (apart and not in_ref.strip()):
            raise _refused(text, f"{part.strip()!r} lacks values on one side of the colon")
        out[name.strip()] = {"pred": _items(in_pred), "ref": _items(in_ref)} if apart else _items(rule)
    return out


def _items(text: str) -> list[int | str]:
    return [int(item) if item.strip().isdigit() else item.strip() for item in text.split("+")]


def _refused(text: str, what: str) -> UsageError:
    return UsageError(
        "MS-U165",
        f"--labels {text!r} cannot be used: {what}",
        mend="write --labels liver=5,tumour=6, with values apart liver=5:1 (PRED:REF), several as core=1+3, or a file",
    )


def _announce(pairs: Pairs) -> None:
    """Pairs and orphans, before anything is scored."""
    scored = len(pairs.pairs) - len(pairs.missing)
    lines = [f"{scored} of {len(pairs.pairs)} references have a prediction"]
    if pairs.missing:
        lines.append(f"without prediction, counted as failures: {_some(pairs.missing)}")
    if pairs.extra:
        lines.append(f"predictions without reference, not scored: {_some(pairs.extra)}")
    show_lines(lines)
    if pairs.refused:
        rows = [(row.case, row.code, row.what, row.file, row.mend) for row in pairs.refused]
        title = f"{len(rows)} of {len(pairs.pairs)} cases are refused by the headers of their files"
        show_table(["case", "code", "what", "file", "mend"], rows, title=title)


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _show(found: Evaluation, out: Path) -> None:
    rows = []
    for structure, metrics in found.summary.items():
        for metric in [m for m in found.protocol.headline if m in metrics] or list(metrics)[:4]:
            a = metrics[metric]
            rows.append((structure, metric, a.definition, *_cells(a)))
    if rows:
        show_table(["structure", "metric", "definition", "median", "mean (finite)", "mean, penalised", "worst"], rows)
    if found.intervals:
        _show_pooled(found)
    for failure in found.failures:
        show_lines([f"not scored: {failure.case}: {failure.code} {failure.what}", f"  -> {failure.mend}"])
    if found.notes:
        show_lines([f"note: {note}" for note in found.notes[:_SHOWN]])
        if len(found.notes) > _SHOWN:
            show_lines([f"... and {len(found.notes) - _SHOWN} more notes in summary.json"])
    show_lines([f"look at {out / 'report.html'}"])


def _show_pooled(found: Evaluation) -> None:
    """Over the instances of all cases together, and beside another prediction's where there is one."""
    heads = ["structure", "instances of all cases", "value"]
    rows = []
    for line in found.intervals:
        cells = [line["structure"], line["metric"], f"{line['value']:.4g} [{line['low']:.4g}, {line['high']:.4g}]"]
        if "other" in line:
            ends = f"[{line['difference_low']:+.4g}, {line['difference_high']:+.4g}]"
            cells += [f"{line['other']:.4g}", f"{line['difference']:+.4g} {ends}"]
        elif found.comparison:
            cells += ["", ""]
        rows.append(cells)
    show_table([*heads, *(["other", "difference"] if found.comparison else [])], rows)


def _cells(a: Aggregate) -> tuple[str, ...]:
    return (
        f"{a.median:.4g}",
        f"{a.mean:.4g} ({a.n_finite} of {a.n})",
        f"{a.mean_penalised:.4g} [{a.low:.4g}, {a.high:.4g}]",
        a.worst_case,
    )


def _bar():
    from contextlib import contextmanager

    from rich.progress import Progress

    @contextmanager
    def shown():
        with Progress(console=stderr(), transient=True, disable=not stderr().is_terminal) as progress:
            task = progress.add_task("scoring")
            yield lambda done, total, name: progress.update(
                task, completed=done, total=total, description=f"scoring {name}".strip()
            )

    return shown()
