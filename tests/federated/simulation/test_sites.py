"""The file of simulated sites."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from medseg.errors import InputError, UsageError
from medseg.federated.simulation.sites import gather, link_cases, read_sites
from medseg.training.datalist import datalist, named_cases

EXAMPLE = Path(__file__).parents[3] / "configs" / "federation" / "sites.example.yaml"


def test_the_example_is_understood():
    found = read_sites(EXAMPLE)
    assert [site.name for site in found] == ["north", "south", "elsewhere"]
    assert found[1].cases == ("case_001", "case_007")
    assert found[1].validation == ("case_007",)
    assert [site.held_out for site in found] == [False, False, True]
    assert found[0].data == EXAMPLE.parent / "data" / "north"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "no list"),
        ([{"name": "a"}], "has no data"),
        ([{"name": "../a", "data": "x"}], "no name of a site"),
        ([{"name": "Server", "data": "x"}], "no name of a site"),
        ([{"name": "a", "data": "x", "hold": True}], "'hold' is none of"),
        ([{"name": "a", "data": "x", "held_out": "yes"}], "true or false"),
        ([{"name": "a", "data": "x", "cases": "one"}], "list of names"),
        ([{"name": "a", "data": "x"}, {"name": "A", "data": "y"}], "two sites are called"),
        ([{"name": "a", "data": "x", "held_out": True}], "every site is held out"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, rows, said):
    path = tmp_path / "sites.yaml"
    path.write_text(yaml.safe_dump({"sites": rows}), encoding="utf-8")
    with pytest.raises(UsageError, match=f"MS-J020 .*sites.yaml[\\s\\S]*{said}"):
        read_sites(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="MS-J020"):
        read_sites(tmp_path / "none.yaml")


def test_some_cases_of_a_folder_are_gathered(tmp_path, cubes):
    cubes(tmp_path / "all", range(4))
    path = tmp_path / "sites.yaml"
    path.write_text("sites: [{name: a, data: all, cases: [cube_01, cube_03]}, {name: b, data: all}]", encoding="utf-8")
    first, second = read_sites(path)
    assert gather(second, tmp_path / "b") == tmp_path / "all"
    folder = gather(first, tmp_path / "a")
    found = [one for part in ("train", "val") for one in datalist(str(folder), part)]
    assert sorted(Path(one["image"]).name for one in found) == ["cube_01.nii.gz", "cube_03.nii.gz"]
    assert Path(found[0]["label"]).read_bytes()
    assert gather(first, tmp_path / "a") == folder  # again, as when a simulation is gone on with
    path.write_text("sites: [{name: a, data: all, cases: [cube_01, cube_9]}]", encoding="utf-8")
    with pytest.raises(InputError, match=r"MS-J021 .*all[\s\S]*cube_9"):
        gather(read_sites(path)[0], tmp_path / "c")


def test_cases_of_several_sites_lie_in_one_folder_under_their_sites_names(tmp_path, cubes):
    cases = {
        f"{site}-{name}": case
        for site in "ab"
        for name, case in named_cases(str(cubes(tmp_path / site, range(2)))).items()
    }
    both = link_cases(cases, tmp_path / "both")
    assert sorted(path.name for path in (both / "labelsTr").iterdir()) == [
        f"{name}-cube_{n:02d}.nii.gz" for name in "ab" for n in range(2)
    ]


def test_patients_whose_files_are_called_alike_keep_their_own_and_nothing_is_written_through_a_link(tmp_path):
    for n in (1, 2):
        for name in ("FLAIR", "T1", "lesions"):
            path = tmp_path / "data" / f"p{n}" / f"{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{name} of {n}".encode())
    cases = named_cases(str(tmp_path / "data"), ("FLAIR", "T1"))
    folder = link_cases(cases, tmp_path / "linked")
    found = named_cases(str(folder), ("FLAIR", "T1"))
    for name, case in found.items():
        told = [Path(one).read_bytes().decode() for one in (*case["image"], case["label"])]
        assert told == [f"{what} of {name[1]}" for what in ("FLAIR", "T1", "lesions")]
    assert found.keys() == cases.keys() == {"p1", "p2"}
    assert (tmp_path / "data" / "p1" / "FLAIR.nii.gz").read_bytes() == b"FLAIR of 1"
