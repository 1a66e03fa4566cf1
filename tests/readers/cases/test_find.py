from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import InputError
from medseg.readers.cases import find_cases, load_case
from medseg.readers.cases.names import collision_key, safe_name
from medseg.readers.options import ReadOptions


def put(folder, *names):
    """Files that are no images: finding cases looks at names only."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def shown(cases):
    return {c.name: ([f.name for f in c.images], c.label and c.label.name) for c in cases}


# One file ------------------------------------------------------------------------------------------------------------


def test_one_file(tmp_path):
    put(tmp_path, "a.nii.gz", "b.nii.gz")
    assert shown(find_cases(tmp_path / "a.nii.gz")) == {"a": (["a.nii.gz"], None)}


def test_one_file_brings_its_other_channels(tmp_path):
    put(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz")
    cases = find_cases(tmp_path / "a_0000.nii.gz", channels=("FLAIR", "T1"))
    assert shown(cases) == {"a": (["a_0000.nii.gz", "a_0001.nii.gz"], None)}
    assert shown(find_cases(tmp_path / "a_0000.nii.gz", channels=("T1",))) == {"a": (["a_0000.nii.gz"], None)}


def test_options_reach_every_case(tmp_path):
    options = ReadOptions(series="4")
    (case,) = find_cases(put(tmp_path, "a.nii"), options=options)
    assert case.options is options


def test_nothing_is_an_error(tmp_path):
    put(tmp_path, "notes.txt", ".hidden.nii.gz", "__MACOSX/a.nii.gz")
    with pytest.raises(InputError, match=r"MS-C101.*no image was found"):
        find_cases(tmp_path)
    with pytest.raises(InputError, match=r"MS-F101"):
        find_cases(tmp_path / "absent")
    (tmp_path / "list.csv").write_text("name,image\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"MS-C101"):
        find_cases(tmp_path / "list.csv")


# Folders of files ----------------------------------------------------------------------------------------------------


def test_a_folder_of_images_with_label_maps_beside(tmp_path):
    put(
        tmp_path,
        "a.nii.gz",
        "a_seg.nii.gz",
        "b.nrrd",
        "b.seg.nrrd",
        "c.mha",
        "label_c.mha",
        "d.nii",
        "d_gt.nii",
        "d_mask.nii",
    )
    assert shown(find_cases(tmp_path)) == {
        "a": (["a.nii.gz"], "a_seg.nii.gz"),
        "b": (["b.nrrd"], "b.seg.nrrd"),
        "c": (["c.mha"], "label_c.mha"),
        "d": (["d.nii"], None),  # which of the two is not guessed
    }


def test_the_longest_image_name_owns_a_label_map(tmp_path):
    put(tmp_path, "t2.nii.gz", "t2_fake_lesion.nii.gz", "t2_seg.nii.gz", "t2_fake_lesion_sc_seg.nii.gz")
    assert {n: label for n, (_, label) in shown(find_cases(tmp_path)).items()} == {
        "t2": "t2_seg.nii.gz",
        "t2_fake_lesion": "t2_fake_lesion_sc_seg.nii.gz",
    }


def test_stray_label_maps_are_refused_unless_there_is_nothing_else(tmp_path):
    put(tmp_path, "a.nii.gz", "b.nii.gz", "mask_3.nii.gz")
    with pytest.raises(InputError, match=r"MS-C108.*1 files.*mask_3\.nii\.gz"):
        find_cases(tmp_path)
    only = put(tmp_path / "only", "mask_3.nii.gz", "mask_4.nii.gz")
    assert sorted(shown(find_cases(only))) == ["mask_3", "mask_4"]


def test_pairs_of_header_and_image_are_one_case(tmp_path):
    put(tmp_path, "a.hdr", "a.img", "b.mhd", "b.raw")
    assert shown(find_cases(tmp_path)) == {"a": (["a.hdr"], None), "b": (["b.mhd"], None)}


@pytest.mark.parametrize(
    "names",
    [
        ("a.nii", "a.nii.gz"),
        ("s1/a.nii.gz", "s2/a.nii.gz"),
        ("Anna.nii", "s/anna.nii"),
        ("é.nii", "s/e\u0301.nii"),
        ("a_0000.nii.gz", "s/a.nii.gz"),
        ("a.nii", "s/a..nii"),
    ],
)
def test_two_inputs_of_one_output_are_refused_before_work_starts(tmp_path, names):
    with pytest.raises(InputError, match=r"MS-C102.*two inputs would write one output"):
        find_cases(put(tmp_path, *names))


@given(st.lists(st.text("aAbB._-01é", min_size=1, max_size=6), min_size=1, max_size=8, unique=True))
def test_found_names_never_collide(tmp_path_factory, stems):
    folder = tmp_path_factory.mktemp("cases")
    files = [f"{n}/{stem}.nii.gz" for n, stem in enumerate(stems) if not stem.startswith(".")]
    if not files:
        return
    put(folder, *files)
    try:
        cases = find_cases(folder)
    except InputError as error:
        code = error.code
    else:
        code = None
        assert len({collision_key(c.name) for c in cases}) == len(cases) == len(files)
    stems = [Path(f).name.removesuffix(".nii.gz") for f in files]
    stems = [safe_name(name.removesuffix("_0000") or name) for name in stems]
    if code is None:
        assert sorted(c.name for c in cases) == sorted(stems)
    else:
        assert code == "MS-C102"
        assert len({collision_key(s) for s in stems}) < len(files)


def test_a_link_back_up_is_not_followed_and_a_linked_folder_is(tmp_path):
    put(tmp_path / "elsewhere", "b.nii.gz")
    root = put(tmp_path / "root", "s/a.nii.gz")
    try:
        (root / "s" / "up").symlink_to(root, target_is_directory=True)
        (root / "t").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    except OSError:
        pytest.skip("no symbolic links here")
    assert sorted(shown(find_cases(root))) == ["a", "b"]


def test_a_folder_that_cannot_be_opened_is_a_case_that_fails(tmp_path, monkeypatch):
    put(tmp_path, "locked/a.nii.gz", "b.nii.gz")
    open_folder = Path.iterdir

    def iterdir(self):
        if self.name == "locked":
            raise PermissionError(13, "denied")
        return open_folder(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert [(c.name, c.images[0].name) for c in find_cases(tmp_path)] == [("b", "b.nii.gz"), ("locked", "locked")]


# Channels ------------------------------------------------------------------------------------------------------------


def test_numbered_channels(tmp_path):
    put(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz", "b_0001.nii.gz", "b_0000.nii.gz", "a_seg.nii.gz")
    cases = find_cases(tmp_path, channels=("FLAIR", "T1"))
    assert shown(cases) == {
        "a": (["a_0000.nii.gz", "a_0001.nii.gz"], "a_seg.nii.gz"),
        "b": (["b_0000.nii.gz", "b_0001.nii.gz"], None),
    }


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (("a_0000.nii.gz", "a_0001.nii.gz", "a_0002.nii.gz"), "a_0000.nii.gz, a_0001.nii.gz, a_0002.nii.gz"),
        (("a_0001.nii.gz",), "a_0001.nii.gz"),
        (("a_0000.nii.gz", "a_0002.nii.gz"), "a_0000.nii.gz, a_0002.nii.gz"),
    ],
)
def test_a_wrong_number_of_channels_fails_that_case_alone(tmp_path, files, found):
    put(tmp_path, *files, "b_0000.nii.gz", "b_0001.nii.gz")
    a, b = find_cases(tmp_path, channels=("FLAIR", "T1"))
    assert b.error is None
    with pytest.raises(InputError, match=r"MS-C105") as caught:
        load_case(a, ("FLAIR", "T1"))
    assert f"wants 2 channels: FLAIR (_0000), T1 (_0001); found {found}" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(a)).error) == str(a.error)


def test_numbered_scans_are_no_channels_of_a_bundle_with_one(tmp_path):
    put(tmp_path, "scan_0001.nii.gz", "scan_0002.nii.gz")
    assert sorted(shown(find_cases(tmp_path, channels=("CT",)))) == ["scan_0001", "scan_0002"]
    put(tmp_path, "scan_0000.nii.gz")
    (case,) = find_cases(tmp_path, channels=("CT",))
    assert case.error is not None
    assert "name them in a CSV list" in case.error.mend


def test_channels_by_name_in_case_folders_and_flat(tmp_path):
    folders = put(tmp_path / "f", *(f"p{n}/{c}.nii.gz" for n in (1, 2) for c in ("FLAIR", "T1", "T2", "lesions")))
    assert shown(find_cases(folders, channels=("FLAIR", "T1w"))) == {
        "p1": (["FLAIR.nii.gz", "T1.nii.gz"], "lesions.nii.gz"),
        "p2": (["FLAIR.nii.gz", "T1.nii.gz"], "lesions.nii.gz"),
    }
    assert shown(find_cases(folders / "p1", channels=("T1w",))) == {"p1": (["T1.nii.gz"], "lesions.nii.gz")}
    flat = put(tmp_path / "flat", *(f"b{n}_{c}.nii.gz" for n in (1, 2) for c in ("flair", "t1", "t1ce", "seg")))
    assert shown(find_cases(flat, channels=("FLAIR", "T1"))) == {
        "b1": (["b1_flair.nii.gz", "b1_t1.nii.gz"], "b1_seg.nii.gz"),
        "b2": (["b2_flair.nii.gz", "b2_t1.nii.gz"], "b2_seg.nii.gz"),
    }


def test_a_missing_named_channel_is_told_by_name(tmp_path):
    put(tmp_path, "p1/FLAIR.nii.gz", "p1/T1.nii.gz", "p2/FLAIR.nii.gz")
    p1, p2 = find_cases(tmp_path, channels=("FLAIR", "T1"))
    assert (p1.name, p1.error, p2.name) == ("p1", None, "p2")
    assert "wants 2 channels: FLAIR, T1; found FLAIR.nii.gz" in str(p2.error)


def test_no_scan_is_passed_over_because_of_its_name_alone(tmp_path):
    put(tmp_path, "t1.nii.gz", "t2.nii.gz", "anna.nii.gz", "t2_seg.nii.gz")
    assert shown(find_cases(tmp_path, channels=("T1w",))) == {
        "anna": (["anna.nii.gz"], None),
        "t1": (["t1.nii.gz"], None),
        "t2": (["t2.nii.gz"], "t2_seg.nii.gz"),
    }


def test_a_label_map_of_another_scan_is_not_taken(tmp_path):
    put(tmp_path, "s_T1w.nii.gz", "s_T2w.nii.gz", "s_T2w_seg.nii.gz")
    assert shown(find_cases(tmp_path, channels=("T1w",))) == {"s_T1w": (["s_T1w.nii.gz"], None)}


# Datasets ------------------------------------------------------------------------------------------------------------


def msd(folder, **changes):
    content = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "organ"},
        "training": [{"image": f"./imagesTr/a{n}.nii.gz", "label": f"./labelsTr/a{n}.nii.gz"} for n in (1, 2)],
        "test": ["./imagesTs/a3.nii.gz"],
    }
    put(folder, "imagesTr/a1.nii.gz", "imagesTr/a2.nii.gz", "imagesTs/a3.nii.gz", "imagesTr/._a1.nii.gz")
    put(folder, "labelsTr/a1.nii.gz", "labelsTr/a2.nii.gz")
    (folder / "dataset.json").write_text(json.dumps(content | changes), encoding="utf-8")
    return folder


def test_msd_dataset(tmp_path):
    expected = {"a1": (["a1.nii.gz"], "a1.nii.gz"), "a2": (["a2.nii.gz"], "a2.nii.gz"), "a3": (["a3.nii.gz"], None)}
    msd(tmp_path)
    assert shown(find_cases(tmp_path, channels=("T1w",))) == expected
    assert shown(find_cases(tmp_path / "dataset.json", channels=("T1w",))) == expected
    assert sorted(shown(find_cases(tmp_path, channels=("T1w",), need_labels=True))) == ["a1", "a2"]
    assert sorted(shown(find_cases(tmp_path / "imagesTr", channels=("T1w",)))) == ["a1", "a2"]
    (tmp_path / "dataset.json").unlink()
    assert shown(find_cases(tmp_path, channels=("T1w",))) == expected


def test_label_maps_without_image_and_images_without_label_map_are_named(tmp_path):
    msd(tmp_path)
    (tmp_path / "dataset.json").unlink()
    put(tmp_path, "labelsTr/z.nii.gz")
    assert len(find_cases(tmp_path)) == 3
    with pytest.raises(InputError, match=r"MS-C109.*1 label maps have no image in imagesTr: z"):
        find_cases(tmp_path, need_labels=True)
    (tmp_path / "labelsTr" / "z.nii.gz").rename(tmp_path / "imagesTr" / "z.nii.gz")
    with pytest.raises(InputError, match=r"MS-C109.*1 of 3 images have no label map, or more than one: z"):
        find_cases(tmp_path, need_labels=True)


def test_nnunet_dataset(tmp_path):
    put(tmp_path, *(f"imagesTr/c_{n}_000{c}.nii.gz" for n in (1, 2) for c in (0, 1)), "labelsTr/c_1.nii.gz")
    content = {"channel_names": {"0": "FLAIR", "1": "T1"}, "labels": {}, "numTraining": 2, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    expected = {
        "c_1": (["c_1_0000.nii.gz", "c_1_0001.nii.gz"], "c_1.nii.gz"),
        "c_2": (["c_2_0000.nii.gz", "c_2_0001.nii.gz"], None),
    }
    for path in (tmp_path, tmp_path / "dataset.json", tmp_path / "imagesTr"):
        assert shown(find_cases(path, channels=("FLAIR", "T1w"))) == expected
    with pytest.raises(InputError, match=r"MS-C106.*in the order T1, FLAIR; this dataset has them as FLAIR, T1"):
        find_cases(tmp_path, channels=("T1", "FLAIR"))
    with pytest.raises(InputError, match=r"MS-C105.*wants 1 channels: CT; this dataset has 2: FLAIR, T1"):
        find_cases(tmp_path, channels=("CT",))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "MS-C104.*no valid JSON"),
        ('{"training": [{"label": "a"}]}', "MS-C104.*names no image"),
        ('{"training": [{"image": 3}]}', "MS-C104.*names no image"),
    ],
)
def test_damaged_dataset_json(tmp_path, text, match):
    (tmp_path / "dataset.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=match):
        find_cases(tmp_path)


def test_the_hippocampus_dataset(data):
    cases = find_cases(data("hippocampus"), channels=("T1w",), need_labels=True)
    assert len(cases) == 200
    assert all(c.label is not None and c.label.name == c.images[0].name == f"{c.name}.nii.gz" for c in cases)


# Lists ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_list(tmp_path, delimiter):
    rows = [
        ("Name", "T1", "age", "FLAIR", "label"),
        ("one", "x/t1.nii", "31", "x/fl.nii", "x/l.nii"),
        ("b:2", "t.nii", "", "f.nii", ""),
    ]
    path = tmp_path / "list.csv"
    path.write_text("\ufeff" + "\n".join(delimiter.join(row) for row in rows), encoding="utf-8")
    one, two = find_cases(path, channels=("FLAIR", "T1w"))
    assert (one.name, two.name) == ("one", "b_2")
    assert one.images == (tmp_path / "x/fl.nii", tmp_path / "x/t1.nii")
    assert (one.label, two.label) == (tmp_path / "x/l.nii", None)


def test_json_list(tmp_path):
    rows = [
        {"image": ["a_0000.nii", "a_0001.nii"], "label": "l.nii"},
        {"name": "n", "image": str(tmp_path / "4d.nii")},
        "c.nii.gz",
    ]
    path = tmp_path / "list.json"
    for content in (rows, {"cases": rows}):
        path.write_text(json.dumps(content), encoding="utf-8")
        a, n, c = find_cases(path, channels=("FLAIR", "T1"))
        assert (a.name, n.name, c.name) == ("a", "n", "c")
        assert [i.name for i in a.images] == ["a_0000.nii", "a_0001.nii"]
        assert n.images == (tmp_path / "4d.nii",)


def test_a_row_without_a_channel_fails_alone(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("name,FLAIR,T1\na,f.nii,t.nii\nb,f.nii,\n", encoding="utf-8")
    a, b = find_cases(path, channels=("FLAIR", "T1"))
    assert a.error is None
    assert "wants 2 channels: FLAIR, T1; found f.nii" in str(b.error)


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        (
            "a.csv",
            "name,FLAIR\na,f.nii\n",
            "MS-C105.*wants 2 channels: FLAIR, T1; this list has columns for FLAIR only",
        ),
        ("a.csv", "name,picture\na,f.nii\n", "MS-C103.*no column says where the images are; it has name, picture"),
        ("a.csv", "name,image\na,b.nii,c.nii\n", "MS-C103.*more fields than the header"),
        ("a.csv", "image,label\n,b.nii\n", "MS-C103.*neither a case nor an image"),
        ("a.json", "[", "MS-C103.*no valid JSON"),
        ("a.json", "3", "MS-C103.*no list of cases"),
        ("a.csv", "name,image\na,x.nii\nA,y.nii\n", "MS-C102.*one output, 'A'"),
    ],
)
def test_unusable_lists(tmp_path, name, text, match):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=match):
        find_cases(tmp_path / name, channels=("FLAIR", "T1"))


def test_a_list_that_is_no_text(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00image\x80")
    with pytest.raises(InputError, match="MS-C103"):
        find_cases(tmp_path / "a.csv")


# DICOM ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def dev(data):
    return data("dicom") / "dev"


def test_a_dicom_folder_is_named_by_folder_and_series_number(dev):
    (case,) = find_cases(dev / "mr_oblique_siemens")
    assert (case.name, case.images) == ("mr_oblique_siemens_11", (dev / "mr_oblique_siemens",))
    assert "dicom" not in case.name.lower()


def test_a_folder_of_studies_is_one_case_a_study(dev, tmp_path):
    shutil.copytree(dev / "mr_oblique_siemens", tmp_path / "anna" / "series1")
    shutil.copytree(dev / "rtstruct_oriented", tmp_path / "bert" / "deep" / "series")
    (tmp_path / "bert" / "mask.nii.gz").touch()
    put(tmp_path, "carl.nii.gz", "notes.txt")
    cases = find_cases(tmp_path)
    assert {c.name: (c.images[0].relative_to(tmp_path).as_posix(), c.label and c.label.name) for c in cases} == {
        "anna_11": ("anna", None),
        f"bert{find_cases(tmp_path / 'bert')[0].name.removeprefix('bert')}": ("bert", "mask.nii.gz"),
        "carl": ("carl.nii.gz", None),
    }
    for case in cases[:2]:
        assert load_case(case).source.format == "dicom"


def test_series_of_one_study_are_one_case_that_asks_which(dev, tmp_path):
    import pydicom

    study = pydicom.dcmread(next((dev / "mr_oblique_siemens").glob("*")), stop_before_pixels=True).StudyInstanceUID
    for number in (1, 2):
        folder = tmp_path / "study" / f"s{number}"
        shutil.copytree(dev / "mr_oblique_siemens", folder)
        for file in folder.iterdir():
            if (dataset := pydicom.dcmread(file, force=True)).get("SeriesInstanceUID"):
                dataset.SeriesInstanceUID += f".{number}"
                dataset.SeriesNumber = number
                dataset.StudyInstanceUID = study
                dataset.save_as(file)
    (case,) = find_cases(tmp_path / "study")
    assert (case.name, case.images) == ("study", (tmp_path / "study",))
    with pytest.raises(InputError, match=r"MS-D130"):
        load_case(case)
    (chosen,) = find_cases(tmp_path / "study", options=ReadOptions(series="2"))
    assert chosen.name == "study_2"
    assert load_case(chosen).source.series_number == 2


def test_one_study_beside_other_images_is_a_case_among_them(dev, tmp_path):
    shutil.copytree(dev / "mr_oblique_siemens", tmp_path / "anna" / "series1")
    put(tmp_path, "b.nii.gz", "c/d.nii.gz")
    assert [(c.name, c.images[0].name) for c in find_cases(tmp_path)] == [
        ("anna_11", "anna"),
        ("b", "b.nii.gz"),
        ("d", "d.nii.gz"),
    ]


def test_one_bad_case_does_not_stop_finding(tmp_path, dev):
    shutil.copytree(dev / "mr_oblique_siemens", tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "IM0001.dcm").write_bytes(b"no dicom at all")
    (tmp_path / "worse.nii.gz").write_bytes(b"<html>")
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6), np.int16), np.diag([1, 2, 3, 1])), tmp_path / "fine.nii.gz")
    found = {}
    for case in find_cases(tmp_path):
        try:
            found[case.name] = load_case(case).array.ndim
        except InputError as error:
            found[case.name] = error.code[:4]
    assert found == {"bad": "MS-F", "fine": 4, "good_11": 4, "worse": "MS-F"}
