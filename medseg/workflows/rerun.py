"""`medseg rerun RECORD`: the results of a record made again, from the same input, bundle and versions, and compared.

On the same class of device the outputs are the same byte for byte. Before anything is computed, all that the record
names must be there as it was; else it is refused, because other results would prove nothing.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.bundle.export_engine import on_engine
from medseg.bundle.load import load_bundle
from medseg.errors import RecordError, UsageError
from medseg.workflows.compute import computing
from medseg.workflows.engine import engine_device
from medseg.workflows.instance_samples import check_instance_method
from medseg.workflows.layout import RECORD, CaseFiles
from medseg.workflows.lock import output_lock
from medseg.workflows.method import parse_method
from medseg.workflows.record import read_record
from medseg.workflows.recorded import bundle_root, case_records, require_versions
from medseg.workflows.recorded_input import find_input
from medseg.workflows.reporter import Reporter
from medseg.workflows.resume import open_folder
from medseg.workflows.run import Run
from medseg.workflows.sampling import check_method
from medseg.workflows.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from os import PathLike

    from medseg.bundle.load import Bundle
    from medseg.workflows.outcome import PredictReport
    from medseg.workflows.recorded import Records

_HANDLED = ("uncertainty", "seed", "samples", "engine")


@dataclass(frozen=True)
class RerunCase:
    """What became of one case.

    Args:
        name: the case.
        equal: outputs that are the same byte for byte.
        differing: outputs that are not, or that only one of the two has.
        failure: why it could not be made again, in words.
    """

    name: str
    equal: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()
    failure: str = ""


@dataclass(frozen=True)
class RerunReport:
    """What became of a rerun.

    Args:
        cases: one report a case.
        notes: in which other circumstances it ran.
        failed: exit code of the cases that failed, 0 when none did.
    """

    cases: tuple[RerunCase, ...]
    notes: tuple[str, ...] = ()
    failed: int = 0

    @property
    def exit_code(self) -> int:
        """0 everything is the same byte for byte, 8 something is not; as for predict where cases failed."""
        return self.failed or (RecordError.exit_code if any(case.differing for case in self.cases) else 0)

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, for `--json`."""
        cases = [
            {"name": c.name, "equal": list(c.equal), "differing": list(c.differing), "failure": c.failure or None}
            for c in self.cases
        ]
        return {"exit_code": self.exit_code, "cases": cases, "notes": list(self.notes)}


def rerun(
    record: str | PathLike[str],
    out: str | PathLike[str] | None = None,
    *,
    source: str | PathLike[str] | None = None,
    bundle: str | PathLike[str] | None = None,
    device: str | None = None,
    case_key: str | PathLike[str] | None = None,
    progress: Reporter | None = None,
) -> RerunReport:
    """Make the results of a record again and compare them.

    Args:
        record: a record.json of a case or of a run, or its folder.
        out: where the new results are kept; None: nowhere, they are compared and removed.
        source: the input, or where it lies now; None: where the record's paths lead from here.
        bundle: the bundle's folder or name; None: the name in the record.
        device: another device than the record's.
        case_key: the key of the pseudonyms; None: medseg-key.json by the input.
        progress: hears what happens.

    Raises:
        RecordError: MS-V101 to MS-V110 the record; MS-V120 other versions, MS-V121 another bundle, MS-V122 the input is
            not there or was changed, MS-V123 the device is not here, MS-V124 it cannot be made again.
        BundleError, OutputError, UsageError: see `medseg.workflows.predict.predict`.
    """
    path = Path(record)
    path = path if path.is_file() else path / RECORD
    records = case_records(path)
    if not records:
        mend = "name the record of a run that has results"
        raise RecordError("MS-V124", "there is no case in this record that could be made again", file=path, mend=mend)
    require_versions(records, path)
    root = bundle_root(records, bundle, path)
    hear = progress or Reporter()
    loaded: dict[str, Bundle] = {}
    jobs = []
    for names in _together(records):  # all that could be refused comes before anything is computed
        settings, threads = _settings(records[names[0]], device, path)
        if settings.device not in loaded:
            loaded[settings.device] = load_bundle(root, device=settings.device)
        ready = on_engine(loaded[settings.device], settings.engine, threads=threads)
        if settings.method is not None:
            (check_instance_method if ready.finds_instances else check_method)(settings.method, ready)
        jobs.append((names, settings, ready))
    found = find_input(
        records,
        None if source is None else Path(source),
        (Path.cwd(), path.parent),
        channels=jobs[0][2].channels,
        key_file=None if case_key is None else Path(case_key),
        file=path,
    )
    with ExitStack() as stack:
        stack.enter_context(hear)
        if out is None:
            out = stack.enter_context(tempfile.TemporaryDirectory(prefix="medseg-rerun-"))
        place = Path(out)
        work = stack.enter_context(output_lock(place))
        reports = []
        for names, settings, ready in jobs:
            run = Run([found.cases[n] for n in names], ready, settings, place, work, hear, found.identity(place))
            if not reports:
                open_folder(place, run.fixed, resume=False, overwrite=False)
            hear.plan(f"{len(names)} of {len(records)} cases again | {ready.name} | {settings.device}")
            with computing(threads=settings.threads, deterministic=settings.deterministic):
                reports.append(run.all(resume=bool(reports)))
        return _compared(records, reports, place)


def _together(records: Records) -> list[list[str]]:
    """The cases that were asked for and computed in one way, each way for itself."""
    ways: dict[str, list[str]] = {}
    for name, record in records.items():
        asked, ran = record["parameters"], record["inference"]
        way = [{key: value for key, value in asked.items() if key != "read"}, ran["device"], ran["threads"]]
        ways.setdefault(str(way), []).append(name)
    return list(ways.values())


def _settings(record: Mapping[str, Any], device: str | None, path: Path) -> tuple[Settings, int]:
    """What a run was asked to do, and with how many threads it computed."""
    asked, ran = record["parameters"], record["inference"]
    made = asked["produced"]
    words, engine = made["uncertainty"], made.get("engine", "torch")
    others = {key: value for key, value in made.items() if key not in _HANDLED}
    if unknown := sorted(set(others) - {field.name for field in fields(Settings)}):
        raise RecordError(
            "MS-V124",
            f"it was asked for something that this medseg does not know: {', '.join(unknown)[:80]}",
            file=path,
            mend="use the version of medseg that made it",
        )
    method = None if words is None else parse_method(words, seed=made["seed"] or 0, keep=made["samples"])
    try:
        there = engine_device(engine, device or ran["device"])
        if device is None and "gpu" in ran:
            _require_gpu(there, ran["gpu"], path)
    except UsageError as error:
        if device is not None:
            raise
        raise _not_here(ran, path) from error
    settings = Settings(
        device=there,
        threads=ran["threads"],
        deterministic=asked["deterministic"],
        outside_domain=asked["outside_domain_allowed"],
        method=method,
        engine=engine,
        **others,
    )
    return settings, ran["threads"]


def _require_gpu(device: str, name: str, path: Path) -> None:
    import torch

    here = torch.cuda.get_device_name(device)
    if here != name:
        raise _not_here({"device": f"a {name}, and here is a {here}", "gpu": ""}, path)


def _not_here(ran: Mapping[str, Any], path: Path) -> RecordError:
    card = f" ({ran['gpu']})" if ran.get("gpu") else ""
    return RecordError(
        "MS-V123",
        f"the results were made on {ran['device']}{card}",
        file=path,
        mend="rerun where there is one; or say --device cpu: other devices round otherwise, so outputs may differ a little",
    )


def _compared(records: Records, reports: Sequence[PredictReport], out: Path) -> RerunReport:
    cases, notes = [], set()
    failures = {failure.case: failure for report in reports for failure in report.failures}
    for name, before in records.items():
        if name in failures:
            failure = failures[name]
            cases.append(RerunCase(name, failure=f"{failure.code} {failure.what} -> {failure.mend}"))
            continue
        now = read_record(CaseFiles(out, name).record) or {}
        old, new = before["outputs"], now.get("outputs", {})
        differing = tuple(sorted(file for file in {**old, **new} if old.get(file) != new.get(file)))
        cases.append(RerunCase(name, tuple(file for file in old if file not in differing), differing))
        notes |= set(_circumstances(before["inference"], now.get("inference", {})))
    codes = {report.exit_code for report in reports} - {0}
    failed = 0 if not codes else codes.pop() if len(codes) == 1 and len(failures) == len(records) else 6
    return RerunReport(tuple(cases), tuple(sorted(notes)), failed)


def _circumstances(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What may round otherwise, in words."""
    told = [(key, then.get(key), now.get(key)) for key in ("device", "gpu", "processor", "platform", "engine_version")]
    return [f"{key}: then {old}, now {new}" for key, old, new in told if old != new]
