"""The scan of a recorded prediction is found by what is in it, or its copy is taken, or it is said what to do."""

from __future__ import annotations

import pytest

from medseg.errors import InputError
from medseg.training.scan_again import scan_again
from medseg.writers.atomic import sha256


@pytest.fixture
def place(tmp_path):
    """work/scans with two channels, and out/a of a prediction."""
    for name in ("work/scans", "out/a"):
        (tmp_path / name).mkdir(parents=True)
    for n in range(2):
        (tmp_path / "work" / "scans" / f"a_000{n}.nii.gz").write_bytes(f"channel {n}".encode())
    return tmp_path


def record(place, count: int):
    scans = place / "work" / "scans"
    names = [f"a_000{n}.nii.gz" for n in range(count)]
    rows = [{"root": n, "name": x, "bytes": 9, "sha256": sha256(scans / x)} for n, x in enumerate(names)]
    return {"input": {"paths": names, "files": rows, "channels": ["c"] * count}}


@pytest.mark.parametrize("near", ["work", "work/scans"])
def test_channels_are_found_from_the_folder_of_the_scans_or_above(place, near):
    found = scan_again(place / "out" / "a", record(place, 2), [place / "out", place / near])
    assert found == [str(place / "work" / "scans" / f"a_000{n}.nii.gz") for n in range(2)]


def test_a_file_of_the_same_name_is_not_taken_for_the_scan(place):
    told = record(place, 2)
    (place / "work" / "scans" / "a_0001.nii.gz").write_bytes(b"channel X")
    with pytest.raises(InputError, match="several channels") as caught:
        scan_again(place / "out" / "a", told, [place / "work"])
    assert caught.value.code == "MS-T182"


def test_of_one_channel_the_copy_does(place):
    copy = place / "out" / "a" / "image.nii.gz"
    copy.write_bytes(b"")
    assert scan_again(place / "out" / "a", record(place, 1), [place / "work"]) == str(copy)
    assert scan_again(place / "out" / "a", {}, []) == str(copy)
    copy.unlink()
    assert scan_again(place / "out" / "a", record(place, 1), [place / "work"]) == str(
        place / "work/scans/a_0000.nii.gz"
    )


def test_a_record_of_before_names_the_place(place):
    scan = place / "work" / "scans" / "a_0000.nii.gz"
    assert scan_again(place / "out" / "a", {"input": {"paths": [str(scan)]}}, []) == str(scan)


def test_neither_says_what_to_do(place):
    with pytest.raises(InputError, match="folder that holds the scans") as caught:
        scan_again(place / "out" / "a", {"input": {"paths": ["case-0123456789ab"]}}, [place / "work"])
    assert caught.value.code == "MS-T182"
