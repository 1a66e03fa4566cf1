"""`medseg plan`: a labelled dataset becomes a bundle that `medseg train` can run.

    labelled  which cases, channels and names there are; label maps of annotators fused, masks merged
    check     every case read once: what is wrong, and the fingerprint of what is right
    split     who trains and who validates
    segmentation, instances   the decisions, written into the form of a shipped bundle
    card      the model card, and the report of every decision

Nothing is written while the dataset has a fault.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from medseg.bundle.check import check_bundle
from medseg.bundle.config_text import config_text
from medseg.errors import OutputError, UsageError
from medseg.training.domain import domain_of
from medseg.training.plan.annotators import agreement_text
from medseg.training.plan.card import REPORT, data_license, model_card, plan_report
from medseg.training.plan.check import check_dataset, same_subjects
from medseg.training.plan.classes import ignore_value, known_values
from medseg.training.plan.fusion import METHODS
from medseg.training.plan.instances import plan_instances
from medseg.training.plan.labelled import find_labelled
from medseg.training.plan.memory import read_size
from medseg.training.plan.problems import DatasetError, Problem
from medseg.training.plan.segmentation import plan_segmentation
from medseg.training.plan.sources import training_folders
from medseg.training.plan.split import drawn
from medseg.training.plan.template import copied_files
from medseg.training.plan.written_labels import LIST, taken_back
from medseg.writers.atomic import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from medseg.bundle.check import Problem as BundleProblem
    from medseg.readers.cases.case import Case
    from medseg.training.plan.annotators import Agreement
    from medseg.training.plan.choice import Choice
    from medseg.training.plan.look import Facts
    from medseg.training.plan.planned import Planned
    from medseg.training.plan.sources import Source
    from medseg.training.plan.split import Split

TASKS = ("segmentation", "instances")
#: `medseg.training.datalist` finds images and labels of these folders by itself.
_PLAIN = ("imagesTr", "images")


@dataclass(frozen=True)
class Plan:
    """What was written.

    Args:
        bundle: its folder.
        choices: every decision.
        notes: what the check of the dataset found and let pass.
        problems: what `medseg bundle check` says of the bundle.
        data: what it is trained with: the dataset, or the list of the labels that were written.
    """

    bundle: Path
    choices: tuple[Choice, ...]
    notes: tuple[Problem, ...]
    problems: tuple[BundleProblem, ...]
    data: Path


def plan_bundle(
    data: Path,
    out: Path,
    *,
    task: str = "segmentation",
    memory: str = "8GB",
    channels: Sequence[str] = (),
    subjects: Path | None = None,
    allow_empty: bool = False,
    measure: bool = True,
    cascade: bool | None = None,
    annotators: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Plan:
    """Check a dataset and plan a bundle from it.

    Args:
        data: an MSD or nnU-Net folder or its dataset.json, a folder with images and labels, a folder of case folders,
            or a CSV, TSV or JSON list.
        out: the bundle; an empty or new folder.
        task: 'segmentation', or 'instances' where label maps hold a number for each object.
        memory: what a training may take, such as '8GB'.
        channels: names of the channels; () takes what the dataset says.
        subjects: a CSV with the columns case, subject and, where the parts are fixed, split.
        allow_empty: cases without any structure are sound.
        measure: run one training step to see what it takes.
        cascade: locate first, then segment inside; None: by the rule of `cascade.cascade_for`.
        annotators: how the label maps of several annotators are fused, one of `fusion.METHODS`. None: there is one label
            map a case, or a mask of each structure. Fused and merged ones come into a folder beside the bundle.
        progress: called with (cases read, cases in all).

    Raises:
        DatasetError: MS-T140 with every fault of the dataset; nothing was written.
        InputError: MS-T103 no such dataset, MS-T150 labels that no bundle can hold, MS-T154 fewer than two annotators.
        OutputError: MS-T152 `out`, or the folder of the written labels, holds something already.
        UsageError: MS-T153 an unknown task or size of memory, MS-T151 too little memory.
    """
    budget = _budget(memory)
    _require_sound(out, task, cascade=cascade, annotators=annotators)
    fused = out.with_name(f"{out.name}_labels")
    with taken_back(fused):
        found = find_labelled(
            data, fused, channels=channels, annotators=annotators, masks=task == "segmentation", progress=progress
        )
        source, agreement = found.source, found.agreement
        known = frozenset() if task == "instances" else known_values(source.said)
        ignore = None if task == "instances" else ignore_value(source.said)
        facts, split, problems = check_dataset(
            source, known, subjects=subjects, allow_empty=allow_empty, ignore=ignore,
            names=task != "instances", progress=progress,
        )  # fmt: skip
        if not any(not problem.note for problem in problems):
            problems += _too_few(facts, source)
        if any(not problem.note for problem in problems):
            raise DatasetError(problems, data)
        if not split.train or not split.validation:
            held = {one.name: one.values for one in facts}
            split = drawn([one.name for one in facts], same_subjects(facts, split.subjects), held)
        plain = not found.written and is_plain(source)
        planned = _planned(task, source, facts, split, budget, plain=plain, measure=measure, cascade=cascade)
        planned = replace(planned, choices=(*found.choices, *planned.choices))
        said = f"medseg plan {data.name} -o {out.name} --task {task} --memory {memory}"
        said += "" if cascade is None else f" --{'' if cascade else 'no-'}cascade"
        said += "" if annotators is None else f" --annotators {annotators}"
        _write(out, planned, source, facts, split, problems, said, agreement)
    trains_on = fused / LIST if found.written else data
    return Plan(out, planned.choices, tuple(problems), tuple(check_bundle(out)), trains_on)


def _require_sound(out: Path, task: str, *, cascade: bool | None, annotators: str | None) -> None:
    """Options that fit together, and a bundle's folder that holds nothing."""
    if task not in TASKS:
        raise UsageError("MS-T153", f"there is no task {task!r}", mend=f"use --task {' or --task '.join(TASKS)}")
    if cascade is not None and task != "segmentation":
        what = f"--{'' if cascade else 'no-'}cascade is for --task segmentation"
        raise UsageError("MS-T153", what, mend="leave it out: Mask R-CNN looks for objects itself")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError("MS-T152", "the bundle's folder is not empty", file=out, mend="give another with -o")
    if annotators is not None and task != "segmentation":
        what = "--annotators is for --task segmentation"
        raise UsageError("MS-T153", what, mend="fuse the objects of several annotators before planning")
    if annotators is not None and annotators not in METHODS:
        what = f"there is no way {annotators!r} to fuse annotators"
        raise UsageError("MS-T153", what, mend=f"use --annotators {' or '.join(METHODS)}")


def _planned(
    task: str,
    source: Source,
    facts: Sequence[Facts],
    split: Split,
    budget: float,
    *,
    plain: bool,
    measure: bool,
    cascade: bool | None,
) -> Planned:
    if task == "segmentation":
        return plan_segmentation(source, facts, split, budget, plain=plain, measure=measure, cascade=cascade)
    return plan_instances(source, facts, split, budget, plain=plain)


def is_plain(source: Source) -> bool:
    """One channel, in imagesTr or images right in the folder: train.json needs no names of channels to find it."""
    folders = [f.name for f in training_folders(source.path)] if source.path.is_dir() else []
    inside = len(folders) == 1 and folders[0] in _PLAIN and (source.path / folders[0]).is_dir()
    files = all(len(case.images) == 1 and case.images[0].is_file() for case in source.cases)
    return inside and files and len(source.channels) == 1


def _too_few(facts: Sequence[Facts], source: Source) -> list[Problem]:
    if len(facts) >= 2:
        return []
    what = f"{len(facts)} labelled case: one trains and another validates, so two are the least"
    return [Problem("MS-T101", what, str(source.path), "add labelled cases")]


def _budget(memory: str) -> float:
    try:
        return read_size(memory)
    except (ValueError, KeyError) as error:
        raise UsageError("MS-T153", f"--memory {memory} is no size", mend="write it such as --memory 8GB") from error


def _write(
    out: Path,
    planned: Planned,
    source: Source,
    facts: Sequence[Facts],
    split: Split,
    notes: Sequence[Problem],
    command: str,
    agreement: Agreement | None,
) -> None:
    """metadata.json comes last: without it a folder is no bundle."""
    configs = planned.configs
    configs["inference"]["domain"] = _domain(planned, source, split)
    for name, text in copied_files(planned.template).items():
        write_text(out / name, text)
    write_text(
        out / "docs" / "README.md", model_card(planned.title, planned.description, out.name, len(facts), source.said)
    )
    write_text(out / "docs" / "data_license.txt", data_license(source.said))
    instances = planned.metadata["network_data_format"]["outputs"]["pred"]["format"] == "instances"
    names = {value: row.name for row in planned.table for value in row.region or (row.value,)}
    told = "" if agreement is None else agreement_text(agreement, names)
    report = plan_report(
        planned.title, command, facts, planned.table, planned.choices, notes, instances=instances, annotators=told
    )
    write_text(out / REPORT, report)
    for name, config in configs.items():
        write_text(out / "configs" / f"{name}.json", config_text(config))
    write_text(out / "configs" / "metadata.json", config_text(planned.metadata))


def _domain(planned: Planned, source: Source, split: Split) -> dict[str, Any]:
    """Measured on the training cases, as `medseg train` does again on those that it trains with."""
    train = [_row(case) for case in source.cases if case.name in set(split.train)]
    instances = planned.metadata["network_data_format"]["outputs"]["pred"]["format"] == "instances"
    found = domain_of(train, planned.table, instances=instances)
    found["modality"] = sorted({*found["modality"], *planned.modality})
    found["anatomy"] = "as the cases that it was planned from"
    return found


def _row(case: Case) -> Mapping[str, Any]:
    images = [str(path) for path in case.images]
    return {"image": images[0] if len(images) == 1 else images, "label": str(case.label)}
