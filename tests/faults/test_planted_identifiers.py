"""Identifiers planted wherever scans have room for them: none in any byte of any result, on either stream, or in a cache.

The commands run in a process of their own, whose sockets are shut: whatever would reach for the network, ends the run.
"""

from __future__ import annotations

import base64
import csv
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from tests.faults.every_byte import found_below, found_in, spellings
from tests.workflows.conftest import AFFINE, blocks

pytestmark = [pytest.mark.slow, pytest.mark.endurance, pytest.mark.timeout(1500)]

#: The root of every UID of the scans: that of a hospital.
ROOT = "1.2.276.0.7230010.3.4711"
#: What the headers of DICOM say.
TAGS = {
    "PatientName": "Quarz^Wilhelmine", "PatientID": "QZ-0815-77", "PatientBirthDate": "19310417", "AccessionNumber": "QACC-2291",
    "InstitutionName": "Qlinikum Nordstadt", "InstitutionAddress": "Quellweg 9", "ReferringPhysicianName": "Quast^Dorothea",
    "OperatorsName": "Queckenstedt^Ottokar", "StationName": "QSTATION7", "StudyDescription": "Qontrolle Knie",
    "SeriesDescription": "Qserie von Wilhelmine", "OtherPatientIDs": "QOTHER-31", "StudyDate": "20190823", "DeviceSerialNumber": "QSER99812",
    "PatientComments": "Nachbarin von Qunigunde", "ProtocolName": "Qprotokoll",
}  # fmt: skip
PRIVATE = "Qprivatwert 4711"
#: Names of folders and files above and in the input.
HOSPITAL, FOLDER, UMLAUT, TWO, BROKEN = (
    "Qhospital",
    "Quarz_Wilhelmine",
    "Qu\u00dfmaul J\u00f6rg",
    "Qvadrat Zwo",
    "Qaputt Hans",
)
SLICES = "QZ0815slice"
#: What headers of other formats say.
HEADERS = {
    "descrip": "qdescrip Waldtraut", "aux_file": "qaux Waldtraut", "db_name": "qdbWaldtraut", "extension": "qextension Waldtraut",
    "nrrd": "qnrrd Waldtraut", "mha": "qmha Waldtraut", "sidecar": "QSIDE-4242",
}  # fmt: skip
PERSON_FILE = "Quintus_Maximilian"

#: Every planted word; names in their parts.
WORDS = [
    *(part for value in TAGS.values() for part in value.split("^")), PRIVATE, ROOT, HOSPITAL, FOLDER, "Qu\u00dfmaul", TWO, "Qvadrat", BROKEN,
    "Qaputt", SLICES, *HEADERS.values(), "Waldtraut", PERSON_FILE, "Maximilian",
]  # fmt: skip

DRIVER = """
import json, os, sys
from pathlib import Path
import numpy as np
from medseg.cli.app import run
codes = {}
for name, argv in json.loads(Path(sys.argv[1]).read_text()).items():
    out, err = (os.open(f"{sys.argv[2]}/{name}.{s}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for s in ("out", "err"))
    sys.stdout.flush(); sys.stderr.flush()
    os.dup2(out, 1); os.dup2(err, 2)
    codes[name] = run(argv)
    sys.stdout.flush(); sys.stderr.flush()
    if name == "references":
        break
    if name == "predict":  # references are called as the scans are: by names
        exec(Path(sys.argv[3]).read_text())
Path(f"{sys.argv[2]}/codes.json").write_text(json.dumps(codes))
"""
#: Shuts every door to the network, in child processes too, and tells of whoever knocked.
SHUT = """
import os, sys
def shut(event, args):
    if event == "socket.bind" and args[1] == ("::1", 0):  # urllib3 tries, when it is imported, whether there is IPv6
        return
    door = event in ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request")
    if door and not (event in ("socket.connect", "socket.bind") and isinstance(args[1], (str, bytes))):  # a file is no network
        with open(os.environ["MEDSEG_KNOCKS"], "a") as file:
            file.write(f"{event} {args!r}\\n")
        raise OSError(f"no network here: {event}")
sys.addaudithook(shut)
"""


def dicom_series(folder: Path, *, number: int = 3, drop: int | None = None, **more: str) -> Path:
    """A series whose right segmentation is known, that says everything of `TAGS`."""
    folder.mkdir(parents=True, exist_ok=True)
    array = np.round(blocks(number) * 1000).astype(np.uint16)
    columns, rows, slices = array.shape
    for k in range(slices):
        if k == drop:
            continue
        ds = FileDataset("", {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = MRImageStorage
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.{number}.{k + 1}"
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.Modality, ds.ImageType, ds.PatientSex = "MR", ["ORIGINAL", "PRIMARY", "M"], "F"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = (
            f"{ROOT}.1.{ord(folder.name[1])}.{ord(folder.name[2])}",
            f"{ROOT}.{number}",
        )
        ds.FrameOfReferenceUID, ds.SeriesNumber, ds.InstanceNumber = f"{ROOT}.2", number, k + 1
        ds.PixelSpacing, ds.SliceThickness = [1, 1], 2
        ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-10, -11, 2 * k]
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.Rows, ds.Columns = 1, "MONOCHROME2", rows, columns
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        for name, value in {**TAGS, **more}.items():
            setattr(ds, name, value)
        ds.private_block(0x0011, "QPRIVATE", create=True).add_new(1, "LO", PRIVATE)
        ds.PixelData = np.ascontiguousarray(array[:, :, k].T).tobytes()
        ds.save_as(folder / f"{SLICES}_{number}_{k:03d}", enforce_file_format=True)
    return folder


def other_formats(folder: Path) -> None:
    """A NIfTI, an NRRD and a MetaImage with something planted in every field of free text."""
    folder.mkdir(parents=True)
    image = nibabel.Nifti1Image(blocks(1), AFFINE)
    for name in ("descrip", "aux_file", "db_name"):
        image.header[name] = HEADERS[name].encode()
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", HEADERS["extension"].encode()))
    nibabel.save(image, folder / "scan_a.nii.gz")
    (folder / "scan_a.json").write_text(json.dumps({"PatientID": HEADERS["sidecar"]}))
    array, step = blocks(2), np.abs(np.diag(AFFINE))
    data = array.tobytes(order="F")
    sizes = " ".join(map(str, array.shape))
    directions = " ".join(f"({','.join(str(step[n] if n == m else 0) for m in range(3))})" for n in range(3))
    fields = [
        "NRRD0004", f"# {HEADERS['nrrd']}", "type: float", "dimension: 3", "space: left-posterior-superior", f"sizes: {sizes}",
        f"space directions: {directions}", "kinds: domain domain domain", "endian: little", "encoding: raw",
        f"content: {HEADERS['nrrd']}", "space origin: (1,2,3)", f"patient:={HEADERS['nrrd']}",
    ]  # fmt: skip
    (folder / "scan_b.nrrd").write_bytes("\n".join([*fields, "", ""]).encode() + data)
    fields = [
        "ObjectType = Image", f"Comment = {HEADERS['mha']}", f"Name = {HEADERS['mha']}", "NDims = 3", "BinaryData = True",
        "BinaryDataByteOrderMSB = False", "CompressedData = False", "TransformMatrix = 1 0 0 0 1 0 0 0 1", "Offset = 1 2 3",
        "ElementSpacing = 1 1.5 2", f"DimSize = {sizes}", f"PatientName = {HEADERS['mha']}", "ElementType = MET_FLOAT", "ElementDataFile = LOCAL",
    ]  # fmt: skip
    (folder / "scan_c.mha").write_bytes(("\n".join(fields) + "\n").encode() + data)


@dataclass(frozen=True)
class Ran:
    """What the commands left.

    Args:
        place: the folder of everything; `results` is all that is not input.
        codes: command -> exit code.
    """

    place: Path
    codes: dict[str, int]

    @property
    def results(self) -> Path:
        return self.place / "results"

    def said(self, name: str) -> str:
        """Both streams of a command."""
        return "".join((self.place / "said" / f"{name}.{s}").read_text(encoding="utf-8") for s in ("out", "err"))


@pytest.fixture(scope="module")
def ran(tmp_path_factory, toy_bundle) -> Ran:
    place = tmp_path_factory.mktemp("planted")
    study, others = place / HOSPITAL / "study", place / HOSPITAL / f"nifti {FOLDER}"
    good = dicom_series(study / FOLDER)
    dicom_series(study / UMLAUT, number=4, drop=7)
    dicom_series(study / TWO, number=5)
    dicom_series(study / TWO, number=6)
    dicom_series(study / BROKEN, number=7, PatientName="Q" + "uarz" * 20)
    for file in sorted((study / BROKEN).iterdir())[5:7]:
        file.write_bytes(file.read_bytes()[:-100])
    other_formats(others)
    people = place / HOSPITAL / "people"
    people.mkdir()
    shutil.copy(others / "scan_a.nii.gz", people / f"{PERSON_FILE}.nii.gz")
    (people / f"{PERSON_FILE}_2.nii.gz").write_bytes(b"no image")
    for name in ("said", "home", "temporary", "cwd", "hook"):
        (place / name).mkdir()
    out = place / "results"
    options = ["-b", str(toy_bundle), "--device", "cpu", "--threads", "1", "--json"]
    commands = {
        "predict": ["predict", str(study), "-o", str(out / "a"), *options, "--dicom", "--mrb", "--debug"],
        "resume": ["predict", str(study), "-o", str(out / "a"), *options, "--dicom", "--mrb", "--resume"],
        "uid": ["predict", str(study / TWO), "-o", str(out / "uid"), *options, "--series", f"{ROOT}.5", "--dicom"],
        "formats": ["predict", str(others), "-o", str(out / "b"), *options, "--debug", "--mrb"],
        "people": ["predict", str(people), "-o", str(out / "c"), *options, "--case-id", "pseudonym", "--flat"],
        "deidentify": ["predict", str(good), "-o", str(out / "d"), *options, "--dicom", "--deidentify"],
        "dry": ["predict", str(study), "-o", str(out / "dry"), *options, "--dry-run"],
        "nothing": ["predict", str(place / HOSPITAL / "empty" / FOLDER), "-o", str(out / "e"), *options],
        "evaluate": [
            "evaluate", str(out / "a"), str(place / HOSPITAL / "references"), "-o", str(out / "evaluation"), "--cases",
            str(place / HOSPITAL / "people.csv"), "--json",
        ],
        "unkeyed": ["evaluate", str(out / "a"), str(place / "elsewhere" / FOLDER), "-o", str(out / "unkeyed")],
        "view": ["view", str(out / "a"), "--print"],
    }  # fmt: skip
    (place / HOSPITAL / "empty" / FOLDER).mkdir(parents=True)
    (place / "commands.json").write_text(json.dumps(commands))
    references = f"""
place, out = Path({str(place)!r}), Path({str(out)!r})
for folder in (place / {HOSPITAL!r} / "references", place / "elsewhere" / {FOLDER!r}):
    folder.mkdir(parents=True)
    made = next((out / "a").glob("case-*/segmentation.nii.gz"))
    for name in ({FOLDER!r} + "_3", {UMLAUT!r}):
        (folder / (name + ".nii.gz")).write_bytes(made.read_bytes())
rows = "case,subject,session\\n" + "".join(f"{{n}},{TAGS["PatientID"]},1\\n" for n in ({FOLDER!r} + "_3", {UMLAUT!r}))
(place / {HOSPITAL!r} / "people.csv").write_text(rows)
"""
    (place / "references.py").write_text(references)
    (place / "driver.py").write_text(DRIVER)
    (place / "hook" / "sitecustomize.py").write_text(SHUT)
    env = {
        **os.environ, "PYTHONPATH": f"{place / 'hook'}{os.pathsep}{Path(__file__).parents[2]}", "HOME": str(place / "home"),
        "TMPDIR": str(place / "temporary"), "XDG_CACHE_HOME": str(place / "home"), "MEDSEG_KNOCKS": str(place / "knocks"),
        "MPLCONFIGDIR": str(place / "home" / "mpl"),
    }  # fmt: skip
    words = [
        sys.executable,
        str(place / "driver.py"),
        str(place / "commands.json"),
        str(place / "said"),
        str(place / "references.py"),
    ]
    done = subprocess.run(words, env=env, cwd=place / "cwd", capture_output=True, text=True, check=False, timeout=1400)
    codes = place / "said" / "codes.json"
    assert codes.is_file(), done.stderr[-3000:]
    return Ran(place, json.loads(codes.read_text()))


def test_at_least_fifteen_identifiers_are_planted_and_the_search_would_find_each(ran):
    assert len(WORDS) >= 15
    study = {word for _, word in found_below(ran.place / HOSPITAL, WORDS)}
    assert set(WORDS) - study <= {ROOT, HOSPITAL}  # a UID stands in the binary files; the hospital is the folder itself
    assert found_in((ran.place / HOSPITAL / "study" / FOLDER / f"{SLICES}_3_000").read_bytes(), [ROOT]) == {ROOT}


@pytest.mark.parametrize("word", ["Quarz", "Qu\u00dfmaul", "19310417"])
def test_the_search_finds_what_is_packed(tmp_path, word):
    text = f"x {word} y".encode()
    with zipfile.ZipFile(tmp_path / "a.mrb", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.nii.gz", gzip.compress(text))
    noise = np.random.default_rng(0).bytes(99)
    (tmp_path / "b.html").write_bytes(b"<p>" + base64.b64encode(gzip.compress(noise + text)) + b"</p>")
    (tmp_path / "c.json").write_text(json.dumps({"a": word}))
    (tmp_path / "d.nii.gz").write_bytes(gzip.compress(b"1") + gzip.compress(text))
    (tmp_path / "e.txt").write_bytes(word.upper().encode("utf-16-le"))
    assert {name for name, _ in found_below(tmp_path, [word])} == {
        "a.mrb",
        "b.html",
        "c.json",
        "d.nii.gz",
        "e.txt",
    } or (
        word == "Qu\u00dfmaul"  # its capital is SS
    )
    assert len(spellings(word)) >= 2


def test_the_commands_did_their_work(ran):
    assert ran.codes == {
        "predict": 6, "resume": 6, "uid": 0, "formats": 0, "people": 6, "deidentify": 0, "dry": 6, "nothing": 3, "evaluate": 0,
        "unkeyed": 3, "view": 0,
    }, {name: ran.said(name)[-1500:] for name in ran.codes}  # fmt: skip
    assert len(list((ran.results / "a").glob("case-*/dicom/seg.dcm"))) == 1
    assert len(list((ran.results / "b").glob("scan_?/segmentation.nii.gz"))) == 3
    assert len(list((ran.results / "c").glob("case-*.nii.gz"))) == 1


def test_none_is_found_in_any_byte_of_any_result_but_the_dicom_objects(ran, count):
    found = [(name, word) for name, word in found_below(ran.results, WORDS) if not name.endswith(".dcm")]
    assert found == []
    count("planted identifiers", len(WORDS), len(WORDS), "in no byte of any result but the DICOM objects")


def test_none_is_found_in_what_commands_say(ran):
    said = {path.name: sorted(found_in(path.read_bytes(), WORDS)) for path in sorted((ran.place / "said").iterdir())}
    assert {name: words for name, words in said.items() if words} == {}
    assert "case-" in ran.said("predict")


def test_none_is_found_in_caches_and_temporary_files(ran):
    assert [hit for folder in ("home", "temporary", "cwd") for hit in found_below(ran.place / folder, WORDS)] == []


def test_dicom_objects_keep_what_a_pacs_needs(ran):
    (seg,) = (ran.results / "a").glob("case-*/dicom/seg.dcm")
    dataset = pydicom.dcmread(seg)
    assert (dataset.PatientName, dataset.PatientID) == (TAGS["PatientName"], TAGS["PatientID"])
    assert (dataset.PatientBirthDate, dataset.AccessionNumber) == (TAGS["PatientBirthDate"], TAGS["AccessionNumber"])
    assert dataset.StudyInstanceUID.startswith(f"{ROOT}.1.")


def test_de_identified_dicom_objects_hold_none(ran):
    objects = list((ran.results / "d").rglob("*.dcm"))
    assert {path.name for path in objects} == {"seg.dcm", "measurements.dcm"}
    assert [(name, word) for name, word in found_below(ran.results / "d", WORDS)] == []


def test_the_key_lies_beside_the_scans_and_tells_who_is_who(ran):
    content = json.loads((ran.place / HOSPITAL / "medseg-key.json").read_text())
    behind = {case["name"]: pseudonym for pseudonym, case in content["cases"].items()}
    assert {f"{FOLDER}_3", PERSON_FILE} <= set(behind)
    assert (ran.results / "a" / behind[f"{FOLDER}_3"] / "segmentation.nii.gz").is_file()
    assert (ran.results / "d" / behind[f"{FOLDER}_3"] / "segmentation.nii.gz").is_file()  # the same in every run
    assert list(ran.results.rglob("*key*")) == []
    assert found_below(ran.results, [content["salt"]]) == []
    with (ran.results / "a" / "failures.csv").open(encoding="utf-8") as file:
        files = {name for row in csv.DictReader(file) for name in re.findall(r"file-[0-9a-f]{12}", row["what"])}
    assert files  # slices that a refusal names
    assert {Path(content["files"][name]).name.startswith(SLICES) for name in files} == {True}


def test_a_resumed_run_knows_finished_cases_by_their_pseudonyms(ran):
    report = json.loads((ran.place / "said" / "resume.out").read_text())
    assert [case["status"] for case in report["cases"]].count("finished before") == 1
    assert {case["status"] for case in report["cases"]} == {"failed", "finished before"}


def test_references_called_by_names_are_matched(ran):
    summary = json.loads((ran.results / "evaluation" / "summary.json").read_text())
    assert (summary["cases"], summary["scored"]) == (2, 2)
    with (ran.results / "evaluation" / "cases.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert {row["case"][:5] for row in rows} == {"case-"}
    assert {row["value"] for row in rows if row["metric"] == "dice" and row["status"] == "ok"} <= {"1", "1.0"}
    assert "--case-key" in ran.said("unkeyed")


def test_nobody_reached_for_the_network(ran):
    assert not (ran.place / "knocks").exists(), (ran.place / "knocks").read_text()


def test_shut_sockets_are_shut(tmp_path):
    """The watch itself: a child of the same kind that knocks is found out."""
    (tmp_path / "sitecustomize.py").write_text(SHUT)
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "MEDSEG_KNOCKS": str(tmp_path / "knocks")}
    code = "import socket; socket.create_connection(('127.0.0.1', 9))"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no network here" in done.stderr
    assert (tmp_path / "knocks").read_text().startswith("socket.")
