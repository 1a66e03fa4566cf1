"""Real commands where little memory is, where nothing may be written, on two file systems, in other languages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medseg.networks.unet import UNet
from medseg.workflows.predict import predict
from tests.faults.commands import ROOT, Command, details, write_scans

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="machine: limits and mounts as POSIX has them"),
]

#: Loads everything that a run does, and tells the most address space that it took.
PEAK = """
import sys
import warnings
from pathlib import Path
from medseg.cli.app import run
assert run(sys.argv[1:]) == 0
lines = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmPeak")))
"""


@pytest.fixture(scope="module")
def hungry(toy_bundle, tmp_path_factory) -> Path:
    """The toy bundle with eight windows at a time, which need some hundred MB, one of them some ten."""
    root = tmp_path_factory.mktemp("bundles") / "hungry"
    shutil.copytree(toy_bundle, root)
    path = root / "configs" / "inference.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    shape = {"in_channels": 1, "out_channels": 3, "features": [16, 16]}
    config["network_def"] = {"_target_": "medseg.networks.UNet", **shape}
    config["inferer"] |= {"roi_size": [64, 64, 64], "sw_batch_size": 8}
    path.write_text(json.dumps(config), encoding="utf-8")
    torch.manual_seed(0)
    torch.save(UNet(1, 3, features=(16, 16)).state_dict(), root / "models" / "model.pt")
    return root


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="machine: address space is limited on Linux")
def test_little_memory_means_smaller_steps_or_a_clear_refusal(hungry, tmp_path, count):
    scans = write_scans(tmp_path / "scans", "a")
    words = ["-b", str(hungry), "--device", "cpu", "--threads", "1", "--outside-domain", "--no-views"]
    command = [sys.executable, "-c", PEAK, "predict", str(scans), "-o", str(tmp_path / "small"), *words]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    peak = 1024 * int(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)

    rng = np.random.default_rng(0)
    middle = rng.random((96, 96, 96), dtype=np.float32)
    nib.save(nib.Nifti1Image(middle, np.eye(4)), scans / "b.nii.gz")  # type: ignore[attr-defined]
    header = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)).header  # type: ignore[attr-defined]
    header.set_data_shape((800, 800, 800))
    header["vox_offset"] = 352
    with (scans / "c.nii").open("wb") as file:  # a sparse file: a GB that takes no room
        file.write(header.binaryblock + bytes(4) + rng.integers(0, 900, 100_000, dtype=np.int16).tobytes())
        file.truncate(352 + 2 * 800**3)

    assert (
        predict(scans / "b.nii.gz", hungry, tmp_path / "free", device="cpu", outside_domain=True, views=False).exit_code
        == 0
    )
    limit = peak + 350_000_000
    limited = Command("predict", scans, "-o", tmp_path / "out", *words, before=["prlimit", f"--as={limit}"])
    assert limited.end() == 6, limited.said
    record = json.loads((tmp_path / "out" / "record.json").read_text("utf-8"))
    assert record["cases"] == {"a": "done", "b": "done", "c": "failed"}
    events = [
        event["code"]
        for event in json.loads((tmp_path / "out/b/record.json").read_text("utf-8"))["inference"]["events"]
    ]
    assert "MS-M201" in events
    free = (tmp_path / "free" / "b" / "segmentation.nii.gz").read_bytes()
    assert (tmp_path / "out" / "b" / "segmentation.nii.gz").read_bytes() == free
    failures = (tmp_path / "out" / "failures.csv").read_text("utf-8").splitlines()
    assert len(failures) == 2
    assert failures[1].startswith("c,MS-M310,")
    assert "memory" in failures[1]
    count(
        "little memory", 2, 2, "one case in smaller steps with the same labels, one refused as MS-M310, the others done"
    )


def read_only(folder: Path) -> list[str]:
    """What to put before a command so that it may not write into a folder."""
    if os.getuid() == 0:
        script = f'mount --bind "{folder}" "{folder}" && mount -o remount,ro,bind "{folder}" && exec "$@"'
        before = ["unshare", "--mount", "sh", "-c", script, "sh"]
        if (
            shutil.which("unshare") is None
            or subprocess.run([*before, "true"], capture_output=True, check=False).returncode
        ):
            pytest.skip("machine: root may write everywhere here, and may mount nothing read-only")
        return before
    folder.chmod(0o555)
    return []


def test_a_folder_that_may_not_be_written_is_told_before_anything_is_computed(toy_bundle, tmp_path, count):
    scans, there = write_scans(tmp_path / "scans"), tmp_path / "there"
    there.mkdir()
    before = read_only(there)
    for out in (there, there / "new"):
        command = Command("predict", scans, "-o", out, "-b", toy_bundle, "--device", "cpu", before=before)
        assert command.end() == 7, command.said
        assert "MS-O302" in command.said
        assert "-> " in command.said
        assert "done in" not in command.said
    data = tmp_path / "data"
    for part in ("imagesTr", "labelsTr"):
        write_scans(data / part, [f"cube_{n}" for n in range(3)])
    command = Command("train", "hippocampus_mri_segmentation", data, "-o", there / "run", "--epochs", 1, before=before)
    assert command.end() == 7, command.said
    assert "MS-O302" in command.said
    assert list(there.iterdir()) == []
    count("read-only output folders", 3, 3, "refused as MS-O302 before anything was computed")


#: Name, environment: a locale that knows no letter but ASCII, with and without Python's help, and two of other bytes and rules.
LOCALES = {
    "LC_ALL=C": {"LC_ALL": "C"},
    "LC_ALL=C, PYTHONUTF8=0": {"LC_ALL": "C", "PYTHONUTF8": "0"},
    "tr_TR.UTF-8": {"LC_ALL": "tr_TR.UTF-8"},
    "de_DE.ISO-8859-1": {"LC_ALL": "de_DE.ISO-8859-1", "PYTHONUTF8": "0"},
}


@pytest.fixture(scope="module")
def locales(tmp_path_factory) -> dict[str, str]:
    """The environment in which those locales are known, made on the spot."""
    if shutil.which("localedef") is None or not Path("/usr/share/i18n/locales/tr_TR").exists():
        pytest.skip("no sources of locales (Debian: apt-get install locales)")
    folder = tmp_path_factory.mktemp("locales")
    for language, letters in (("tr_TR", "UTF-8"), ("de_DE", "ISO-8859-1")):
        subprocess.run(["localedef", "-i", language, "-f", letters, str(folder / f"{language}.{letters}")], check=True)
    return {"LOCPATH": str(folder)}


@pytest.fixture(scope="module")
def named(toy_bundle, tmp_path_factory) -> Path:
    """Scans whose names are anything but ASCII, and what a run makes of them."""
    place = tmp_path_factory.mktemp("names") / "Schädel \N{BRAIN} mit Leerzeichen"
    write_scans(place / "scans", ["Bär \N{BEAR FACE} 1", "ıİ Straße"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # matplotlib has no bear
        assert predict(place / "scans", toy_bundle, place / "whole", device="cpu").exit_code == 0
    return place


@pytest.mark.parametrize("language", LOCALES)
def test_any_language_and_a_temporary_folder_elsewhere(language, named, locales, toy_bundle, count, tmp_path):
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == named.stat().st_dev:
        pytest.skip("machine: there is no second file system")
    temporary = elsewhere / f"medseg-test-{os.getpid()}"
    temporary.mkdir()
    try:
        out = tmp_path / "Ergebnis ü \N{BRAIN}"
        env = {**locales, **LOCALES[language], "TMPDIR": str(temporary)}
        command = Command("predict", named / "scans", "-o", out, "-b", toy_bundle, "--device", "cpu", "--json", env=env)
        assert command.end() == 0, command.said
        assert list(temporary.iterdir()) == []
        assert json.loads(command.out)["exit_code"] == 0
        assert details(out) == details(named / "whole")
    finally:
        shutil.rmtree(temporary)
    count(f"names beyond ASCII in {language}, temporary files elsewhere", 1, 1, "every file as anywhere")
