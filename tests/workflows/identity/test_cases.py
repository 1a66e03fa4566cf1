"""Who gets a pseudonym: cases from DICOM, all or none as asked; and what a run says of its input when it cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from medseg.errors import InputError, OutputError, UsageError
from medseg.readers.cases import Case
from medseg.workflows.identity.cases import identify
from medseg.workflows.identity.key import FILE, is_pseudonym
from medseg.workflows.resume import open_folder
from medseg.workflows.seal import sealed
from medseg.writers.atomic import write_json

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def source(tmp_path) -> Path:
    """data/scans with a folder of slices and a NIfTI."""
    folder = tmp_path / "data" / "scans"
    (folder / "Anna").mkdir(parents=True)
    (folder / "Anna" / "IM1").write_bytes(b"\0" * 128 + b"DICM")
    (folder / "bert.nii.gz").write_bytes(b"")
    return folder


def cases(source: Path) -> list[Case]:
    return [Case("Anna_3", (source / "Anna",)), Case("bert", (source / "bert.nii.gz",))]


def named(source: Path, mode: str = "auto", **options):
    return identify(lambda: cases(source), source, source.parents[1] / "out", mode=mode, **options)


@pytest.mark.parametrize(
    ("mode", "hidden"), [("auto", [True, False]), ("pseudonym", [True, True]), ("name", [False, False])]
)
def test_who_gets_a_pseudonym(source, mode, hidden):
    found, identity = named(source, mode)
    by_image = {case.images[0].name: is_pseudonym(case.name) for case in found}
    assert [by_image["Anna"], by_image["bert.nii.gz"]] == hidden
    assert (source.parent / FILE).exists() == any(hidden)
    assert identity.fixed == {"case_id": mode, "key": identity.key.mark if identity.key else None}
    assert [case.name for case in found] == sorted(case.name for case in found)


def test_the_same_case_has_the_same_name_alone_and_among_others(source):
    found, _ = named(source)
    alone, _ = identify(lambda: cases(source)[:1], source / "Anna", source.parents[1] / "other")
    assert alone[0].name in {case.name for case in found}


def test_the_key_knows_who_is_who(source):
    found, identity = named(source)
    identity.remember(found)
    (pseudonym,) = (case.name for case in found if is_pseudonym(case.name))
    assert f'"{pseudonym}"' in (source.parent / FILE).read_text()
    assert "Anna_3" in (source.parent / FILE).read_text()
    assert "bert" not in (source.parent / FILE).read_text()


def test_a_dry_run_leaves_no_key(source):
    _, identity = named(source, write=False)
    assert identity.key is not None
    assert not (source.parent / FILE).exists()


def test_an_unknown_word_is_refused(source):
    with pytest.raises(UsageError, match="pseudonym, name") as caught:
        named(source, "nickname")
    assert caught.value.code == "MS-U400"


@pytest.mark.parametrize(("mode", "told"), [("auto", False), ("pseudonym", False), ("name", True)])
def test_what_cannot_be_used_is_told_without_names_where_there_is_dicom(source, mode, told):
    def fail():
        raise InputError(
            "MS-C102", f"two of one name: {source / 'Anna'} and Anna", file=source / "Anna", mend="rename one"
        )

    with pytest.raises(InputError) as caught:
        identify(fail, source, source.parents[1] / "out", mode=mode)
    assert ("Anna" in str(caught.value)) == told
    assert str(source) not in str(caught.value)
    assert not (source.parent / FILE).exists()


@pytest.mark.parametrize(
    ("before", "now", "refused"),
    [
        ({"case_id": "auto", "key": None}, {"case_id": "auto", "key": "aa"}, False),
        ({"case_id": "auto", "key": "aa"}, {"case_id": "auto", "key": None}, False),
        ({"case_id": "auto", "key": "aa"}, {"case_id": "auto", "key": "bb"}, True),
        ({"case_id": "auto", "key": "aa"}, {"case_id": "name", "key": None}, True),
        (None, {"case_id": "auto", "key": "aa"}, False),
    ],
)
def test_a_folder_is_continued_with_the_same_names_only(tmp_path, before, now, refused):
    same = {"bundle": {"name": "toy"}, "read": {}, "flat": False, "produced": {}}
    settings = same if before is None else {**same, "identity": before}
    write_json(tmp_path / "record.json", sealed({"schema": "medseg-record/1", "settings": settings}))
    if not refused:
        open_folder(tmp_path, {**same, "identity": now}, resume=True, overwrite=False)
        return
    with pytest.raises(OutputError, match=r"pseudonyms of another key|--case-id auto") as caught:
        open_folder(tmp_path, {**same, "identity": now}, resume=True, overwrite=False)
    assert caught.value.code == "MS-O305"
