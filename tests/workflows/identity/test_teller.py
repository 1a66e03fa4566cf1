"""Files and words of a case: relative to the input where names may be told, by pseudonyms where not, never absolute."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import pytest

from medseg.errors import ChoiceError, InputError
from medseg.readers.options import ReadOptions
from medseg.workflows.identity.guard import guarded
from medseg.workflows.identity.key import Key
from medseg.workflows.identity.teller import Teller, plain

if TYPE_CHECKING:
    from pathlib import Path

KEY = Key(b"k" * 32)
UID = "1.2.276.0.7230010.3.99.1"


@pytest.fixture
def study(tmp_path) -> Path:
    """study/Mueller/CT with two files; results lie beside the study."""
    folder = tmp_path / "Klinikum" / "study" / "Mueller" / "CT"
    folder.mkdir(parents=True)
    for name in ("IM0001", "Mueller_02.dcm"):
        (folder / name).write_text("")
    return tmp_path / "Klinikum" / "study"


def teller(study: Path, key: Key | None) -> Teller:
    out, root = study.parents[1] / "out", study / "Mueller"
    return Teller(study, out, "case-1" if key else "Mueller", (root,), key, "Mueller" if key else "")


def test_names_are_told_from_the_input_on(study):
    told = teller(study, None)
    assert told.root(study / "Mueller") == "Mueller"
    assert told.path(study / "Mueller" / "CT" / "IM0001") == "Mueller/CT/IM0001"
    assert told.path(study) == "INPUT"
    assert told.path("/elsewhere/of/somebody/x.nii.gz") == "x.nii.gz"
    assert told.path(study.parents[1] / "out" / "a" / "b.csv") == "a/b.csv"
    assert told.text(f"{study}/Mueller/x and {study} end") == "Mueller/x and INPUT end"
    assert told.name("CT/IM0001") == "CT/IM0001"
    assert told.name("../Mueller/x") == "x"


def test_pseudonyms_tell_no_name(study):
    told = teller(study, KEY)
    assert told.root(study / "Mueller") == "case-1"
    assert told.path(study / "Mueller") == "case-1"
    file = told.path(study / "Mueller" / "CT" / "Mueller_02.dcm")
    assert file == f"case-1/{KEY.path('CT/Mueller_02.dcm')}.dcm"
    assert told.mentioned == {file.removeprefix("case-1/"): str(study / "Mueller" / "CT" / "Mueller_02.dcm")}
    said = told.text(f"between IM0001 and Mueller_02.dcm in {study}/Mueller/CT (Mueller), series {UID}")
    assert not {"Mueller", "IM0001", "study", "Klinikum", UID} & set(said.replace("/", " ").split())
    assert KEY.path("CT/IM0001") in said
    assert KEY.uid(UID) in said
    assert "Mueller" not in told.path("/elsewhere/Mueller/x")


def test_a_message_without_names_stays_word_for_word(study):
    words = "1 of 18 slices are missing, between z=12 mm and z=16 mm; 512 x 512 voxels of 0.7 mm"
    assert teller(study, KEY).text(words) == words


def test_a_series_named_by_its_uid_is_told_by_a_pseudonym(study):
    options = ReadOptions(series=UID)
    assert teller(study, KEY).read_options(options)["series"] == KEY.uid(UID)
    assert teller(study, None).read_options(options)["series"].startswith("uid-")
    assert teller(study, KEY).read_options(ReadOptions(series="3"))["series"] == "3"
    assert teller(study, KEY).read_options(ReadOptions())["series"] is None


def test_errors_are_told_once(study):
    told = teller(study, KEY)
    error = ChoiceError("MS-D130", "2 of Mueller", file=study / "Mueller", mend="see IM0001", candidates=["Mueller 1"])
    told.tell(error)
    first = str(error)
    told.tell(error)
    assert str(error) == first
    assert "Mueller" not in first + repr(error.args) + str(error.candidates)
    assert error.file == "case-1"


def test_files_of_no_run_are_told_by_their_names(study):
    told = plain((study / "Mueller" / "CT" / "IM0001",))
    assert told.root(told.roots[0]) == "IM0001"
    assert str(study) not in told.text(f"{told.roots[0]} is odd")


@pytest.fixture
def log(monkeypatch):
    """Lines that reach a handler of the root logger."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(self.format(record))

    library = logging.getLogger("pydicom")  # as another test of this process may have left it
    for name, usual in {"disabled": False, "propagate": True, "level": logging.WARNING}.items():
        monkeypatch.setattr(library, name, usual)
    library.manager._clear_cache()  # pyright: ignore[reportAttributeAccessIssue]
    handler = Keep()
    logging.getLogger().addHandler(handler)
    yield lines
    logging.getLogger().removeHandler(handler)


def noisy(study: Path) -> None:
    """A run in which a library talks, and which then fails."""
    logging.getLogger("pydicom").warning("odd value %r of %s", "Mueller", UID)
    warnings.warn("IM0001 of Mueller", stacklevel=1)
    try:
        raise OSError(5, "Mueller is broken", str(study / "Mueller" / "CT" / "IM0001"))
    except OSError as error:
        raise InputError("MS-F101", "Mueller", file=study / "Mueller", mend="x") from error


def test_logs_and_warnings_of_a_run_tell_no_name(study, log):
    shown: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: shown.append(str(message))
        with pytest.raises(InputError) as caught, guarded(lambda: teller(study, KEY)):
            noisy(study)
    logging.getLogger("pydicom").warning("after: %s", "Mueller")
    assert [line for line in [*log[:1], *shown, str(caught.value)] if "Mueller" in line or UID in line] == []
    cause = caught.value.__cause__
    assert isinstance(cause, OSError)
    assert "Mueller" not in f"{cause} {cause.filename} {cause.args}"
    assert log[1] == "after: Mueller"  # the block is over
    assert len(shown) == 1
