"""`medseg federate stats WHERE`: what the data of sites are like, where one differs from the others, what they agree on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medseg.cli.console import show_json, show_lines, show_table, stderr
from medseg.cli.options import Json
from medseg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


def stats(
    where: Annotated[
        Path,
        typer.Argument(
            metavar="WHERE",
            show_default=False,
            help="SITES.yaml (simulated sites), an administrator's KIT (the real ones), or DATA (this site alone).",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="OUT", help="Folder of the report; not for DATA.", show_default=False),
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option(
            "-b", "--bundle", metavar="BUNDLE", show_default=False, help="The one to be trained: names of its labels."
        ),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            "--write", metavar="NEW", show_default=False, help="A copy of the bundle with what was agreed, as a recipe."
        ),
    ] = None,
    name: Annotated[str, typer.Option("-n", "--name", metavar="RUN", help="Of the job, at a KIT's server.")] = "stats",
    at_least: Annotated[
        int, typer.Option("--at-least", metavar="N", help="Cases below which a site says nothing; never below 5.")
    ] = 5,
    quorum: Annotated[int, typer.Option(metavar="N", help="Sites that must answer.")] = 2,
    deadline: Annotated[float, typer.Option(metavar="SECONDS", help="For a site to read its cases.")] = 3600.0,
    json: Json = False,
) -> None:
    """Compare the sites' data before round 1: intensities, voxels, labels and their sides. No image and no name of a file
    leaves a site: counts and quantiles of at least 5 cases do.

    OUT/consortium.json is for all sites (medseg federate join --consortium); OUT/sites.json and sites.png are for you.
    Exits 3 where a site must not train as it is.
    """  # fmt: skip
    if write is not None and bundle is None:
        raise UsageError("MS-J175", "--write without --bundle", mend="say with --bundle which one is to be copied")
    if where.is_dir() and not (where / "startup").is_dir():
        _alone(where, bundle, json=json)
        return
    if out is None:
        raise UsageError("MS-J175", "no folder for the report was given", mend="give one with -o OUT")
    numbers: dict[str, Any] = {"at_least": at_least, "quorum": quorum, "deadline_s": deadline}
    if where.is_dir():
        _at_kit(where, out, bundle, name, numbers)
    else:
        from medseg.federated.simulation.stats import simulate_stats

        with stderr().status("the sites read their cases"):
            simulate_stats(where, out, bundle=bundle, **numbers)
    _show(out, bundle, write, json=json)


def _alone(data: Path, bundle: str | None, *, json: bool) -> None:
    """What this site would tell, and what it finds of itself."""
    from medseg.federated.stats.agreement import bins_for, compare
    from medseg.federated.stats.findings import COLUMNS
    from medseg.federated.stats.fingerprint import fingerprint_of
    from medseg.federated.stats.fingerprint_json import to_json
    from medseg.federated.stats.reference import channels_and_labels, of_bundle
    from medseg.federated.stats.survey import survey
    from medseg.training.plan import problems

    channels, labels = channels_and_labels(bundle)
    with stderr().status("reading the cases") as status:
        seen = survey(data, channels, labels=labels, progress=lambda n, of: status.update(f"read {n} of {of} cases"))
    own = fingerprint_of(seen, bins_for([fingerprint_of(seen)]))
    found = [one.row() for one in seen.problems]
    if found:
        show_table(problems.COLUMNS, found, title="for this site alone")
    others = None if bundle is None else of_bundle(bundle)
    found = compare("this site", own, own if others is None else others)
    show_table(COLUMNS, [one.row() for one in found], title=str(data))
    show_lines([f"{own.cases} cases; --json shows all that would be told of them"])
    if json:
        show_json(to_json(own))
    if any(one.verdict == "fail" for one in found):
        raise typer.Exit(3)


def _at_kit(kit: Path, out: Path, bundle: str | None, name: str, numbers: Mapping[str, Any]) -> None:
    """The real sites: a job is submitted, followed, and its report fetched."""
    from tempfile import TemporaryDirectory

    from medseg.federated.kits import admin
    from medseg.federated.kits.kit import read_kit
    from medseg.federated.stats.job import stats_job
    from medseg.federated.stats.report import taken_over

    own = read_kit(kit, "admin")
    with TemporaryDirectory() as folder:
        job = stats_job(Path(folder), run=name, bundle=bundle or own.bundle or None, **numbers)
        with admin.session(own) as speaking:
            number = admin.submit(speaking, job)
            show_lines([f"{number} {name}: submitted"])
            found = admin.follow(speaking, number, lambda line: show_lines([line]))
            admin.require_completed(found, admin.said(speaking, number))
            taken_over(admin.fetch(speaking, number, Path(folder) / "result"), out)


def _show(out: Path, bundle: str | None, write: Path | None, *, json: bool) -> None:
    from medseg.federated.stats.findings import COLUMNS
    from medseg.federated.stats.reference import channels_and_labels
    from medseg.federated.stats.report import CONSORTIUM, PICTURE, REPORT, agreement_at

    agreed = agreement_at(out, channels_and_labels(bundle)[1])
    counts = [(name, one.cases or f"fewer than {one.at_least}") for name, one in agreed.sites.items()]
    show_table(("site", "cases"), counts, title=str(out))
    if agreed.findings:
        show_table(COLUMNS, [one.row() for one in agreed.findings])
    show_table(("", "agreed", "why"), [(one.topic, one.value, one.why) for one in agreed.choices])
    lines = [f"for every site: {out / CONSORTIUM}", f"for you: {out / REPORT}, {out / PICTURE}"]
    if write is not None:
        from medseg.federated.stats.agreed_bundle import write_agreed

        lines.append(f"the bundle with what was agreed: {write_agreed(str(bundle), agreed, write)}")
    show_lines(lines)
    if json:
        show_json(agreed.to_json())
    failed = sorted({one.site for one in agreed.findings if one.verdict == "fail"})
    if failed:
        show_lines([f"not fit to train as they are: {', '.join(failed)}"])
        raise typer.Exit(3)
