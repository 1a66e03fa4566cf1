"""`medseg rank` on scans whose doubt is known, and on real ones with copies among them."""

from __future__ import annotations

import copy
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from math import log
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
import torch
from rich.console import Console

from medseg.bundle.uncertainty import Declared
from medseg.errors import BundleError, InputError, MemoryLimitError, OutputError, UsageError
from medseg.networks import UNet
from medseg.stop import Stopped, stoppable
from medseg.workflows.lock import output_lock
from medseg.workflows.rank import default_method, rank
from medseg.workflows.ranking.measures import CRITERIA
from medseg.workflows.reporter import ConsoleReporter, Reporter
from medseg.writers.atomic import sha256
from medseg.writers.nifti import write_nifti
from tests.workflows.conftest import AFFINE, blocks
from tests.workflows.instance_network import finding

if TYPE_CHECKING:
    from pathlib import Path

RUN = {"rank.csv", "rank.html", "failures.csv", "record.json"}
CASE = {"preview.png", "record.json"}
SHIFT = 0.2  # the second member of the ensemble scores label 1 so much higher


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def order(out: Path) -> list[str]:
    return [row["case"] for row in table(out / "rank.csv")]


def everything(out: Path) -> set[str]:
    return {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file() and p.name != ".medseg.lock"}


@pytest.fixture(scope="module")
def toy(toy_bundle):
    """The toy bundle as an ensemble of two that differ where x lies between 0.2 and 0.4."""
    from medseg.bundle.load import load_bundle

    bundle = load_bundle(toy_bundle)
    other = copy.deepcopy(bundle.network)
    with torch.no_grad():
        other.model[2].conv.bias[1] += SHIFT
    return replace(bundle, uncertainty=Declared(weights=("other",)), members=lambda: (bundle.network, other))


def doubtful(voxels: int, seed: int = 0) -> np.ndarray:
    """`blocks` with so many planes of 25 voxels at 0.3, which one member finds and the other does not."""
    array = blocks(seed)
    array[array < 0.2] *= 0.5
    array[4 : 4 + voxels, 12:17, 12:17] = 0.3
    return array


@pytest.fixture
def pool(tmp_path) -> Path:
    """Cases by rising doubt: none (0 planes), some (2), much (9)."""
    for name, planes in (("none", 0), ("some", 2), ("much", 9)):
        write_nifti(tmp_path / "pool" / f"{name}.nii.gz", doubtful(planes, seed=planes), AFFINE)
    return tmp_path / "pool"


def expected(array: np.ndarray) -> dict[str, float]:
    """The numbers of a case from the two members' scores (0, x - 0.4, 2 x - 1.1), written out."""
    x = (array - array.min()) / (array.max() - array.min())
    p = []
    for shift in (0.0, SHIFT):
        scores = np.exp(np.stack([np.zeros_like(x), x - 0.4 + shift, 2 * x - 1.1]).astype(float))
        p.append(scores / scores.sum(axis=0))
    p = np.stack(p)
    mean, found = p.mean(axis=0), p.argmax(axis=1)
    where = (mean.argmax(axis=0) > 0) | (found > 0).any(axis=0)
    total, each = (-(q * np.log(q)).sum(axis=-4) / log(3) for q in (mean, p))
    pairs = [(found[0] == value, found[1] == value) for value in (1, 2)]
    return {
        "entropy": total[where].mean(),
        "mutual_information": (total - each.mean(axis=0))[where].mean(),
        "disagreement": np.mean([1 - 2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs]),
        "foreground_ml": (mean.argmax(axis=0) > 0).sum() * 0.003,
    }


def test_a_pool(pool, toy, tmp_path):
    out = tmp_path / "out"
    report = rank(pool, toy, out, by="disagreement")
    assert report.exit_code == 0
    assert everything(out) == RUN | {f"{case}/{file}" for case in ("none", "some", "much") for file in CASE}
    rows = table(out / "rank.csv")
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert [row["case"] for row in rows] == ["much", "some", "none"]
    for row, planes in zip(rows, (9, 2, 0), strict=True):
        wanted = expected(doubtful(planes, seed=planes))
        assert {key: float(row[key]) for key in wanted} == pytest.approx(wanted, abs=1e-4)
        assert row["score"] == row["disagreement"]
        assert row["images"] == f"{row['case']}.nii.gz"  # from the pool on
        assert row["outside_domain"] == "no"
    assert (rows[0]["diversity"], rows[0]["nearest"], rows[0]["why"]) == ("", "", "the most doubt of all")
    assert all(float(row["diversity"]) > 0 and row["nearest"] for row in rows[1:])
    assert table(out / "failures.csv") == []
    run = json.loads((out / "record.json").read_text(encoding="utf-8"))
    assert (run["state"], run["by"], run["ranked"]) == ("done", "disagreement", ["much", "some", "none"])
    assert run["settings"]["produced"] == {"ranking": "ensemble", "seed": None}
    record = json.loads((out / "some" / "record.json").read_text(encoding="utf-8"))
    assert record["outputs"] == {"preview.png": sha256(out / "some" / "preview.png")}
    assert record["input"]["files"][0]["sha256"] == sha256(pool / "some.nii.gz")
    assert record["uncertainty"] == {"method": "ensemble", "samples": 2, "seed": None}
    page = (out / "rank.html").read_text(encoding="utf-8")
    assert page.index('data-case="much"') < page.index('data-case="some"') < page.index('data-case="none"')
    assert "3 cases, by disagreement of toy 0.0.1 (ensemble)" in page
    assert report.to_json()["ranked"][0]["case"] == "much"


@pytest.mark.parametrize(("by", "column"), CRITERIA.items())
def test_every_criterion(pool, toy, tmp_path, by, column):
    rank(pool, toy, tmp_path / "out", by=by)
    rows = table(tmp_path / "out" / "rank.csv")
    assert all(row["score"] == row[column] for row in rows)
    assert rows[0]["case"] == max(rows, key=lambda row: float(row[column]))["case"]


def test_copies_of_the_most_doubtful_case_come_last(pool, toy, tmp_path):
    for n in range(4):
        shutil.copy(pool / "much.nii.gz", pool / f"much again {n}.nii.gz")
    rank(pool, toy, tmp_path / "out", by="disagreement")
    rows = table(tmp_path / "out" / "rank.csv")
    assert [row["case"] for row in rows] == ["much", "some", "none", *(f"much again {n}" for n in range(4))]
    assert {row["why"] for row in rows[3:]} == {"as much doubt as most, as good as a copy of much"}
    assert {row["diversity"] for row in rows[3:]} == {"0.0"}


def test_the_order_of_the_pool_changes_nothing(pool, toy, tmp_path):
    texts = set()
    for n, names in enumerate((["none", "some", "much"], ["much", "none", "some"])):
        lines = ["case,image", *(f"{name},{(pool / name).as_posix()}.nii.gz" for name in names)]
        (tmp_path / f"{n}.csv").write_text("\n".join(lines), encoding="utf-8")
        rank(tmp_path / f"{n}.csv", toy, tmp_path / f"out {n}")
        texts.add((tmp_path / f"out {n}" / "rank.csv").read_text(encoding="utf-8"))
    assert len(texts) == 1


def test_only_the_first(pool, toy, tmp_path):
    report = rank(pool, toy, tmp_path / "all", by="disagreement")
    few = rank(pool, toy, tmp_path / "few", by="disagreement", first=2)
    assert few.ranked == report.ranked[:2]
    assert order(tmp_path / "few") == ["much", "some"]
    assert "2 of 3 cases" in (tmp_path / "few" / "rank.html").read_text(encoding="utf-8")
    assert (tmp_path / "few" / "none" / "record.json").is_file(), "all were looked at"


def test_one_unreadable_file(pool, toy, tmp_path):
    (pool / "some.nii.gz").write_bytes((pool / "some.nii.gz").read_bytes()[:500])
    report = rank(pool, toy, tmp_path / "out", by="disagreement")
    assert report.exit_code == 6
    assert order(tmp_path / "out") == ["much", "none"]
    (row,) = table(tmp_path / "out" / "failures.csv")
    assert row["case"] == "some"
    assert row["code"].startswith("MS-")
    page = (tmp_path / "out" / "rank.html").read_text(encoding="utf-8")
    assert row["code"] in page
    assert "1 not looked at" in page
    assert not (tmp_path / "out" / "some").exists()
    assert [failure["case"] for failure in report.to_json()["failed"]] == ["some"]


def test_what_headers_refuse_is_told_before_the_bundle_loads(pool, tmp_path, capsys):
    (pool / "some.nii.gz").write_bytes(b"")
    (tmp_path / "bundle" / "configs").mkdir(parents=True)
    (tmp_path / "bundle" / "configs" / "metadata.json").write_text("{", encoding="utf-8")
    with pytest.raises(BundleError, match="metadata") as caught:
        rank(pool, tmp_path / "bundle", tmp_path / "out", progress=ConsoleReporter(Console(stderr=True)))
    assert caught.value.code == "MS-B104"
    said = capsys.readouterr().err
    assert "1 of 3 cases are refused by their headers" in said
    assert "MS-F104" in said
    assert not (tmp_path / "out").exists()


def test_every_case_bad(pool, toy, tmp_path):
    for path in pool.iterdir():
        path.write_bytes(b"")
    assert rank(pool, toy, tmp_path / "out").exit_code == 3
    assert everything(tmp_path / "out") == RUN
    assert table(tmp_path / "out" / "rank.csv") == []


@pytest.mark.parametrize(
    ("error", "code"),
    [(MemoryError("Unable to allocate 9 GiB"), "MS-M310"), (MemoryLimitError("MS-M101", "", mend=""), "MS-M101")],
)
def test_out_of_memory_has_its_own_exit_code(pool, toy, tmp_path, error, code):
    def full(data):
        raise error

    assert rank(pool, replace(toy, preprocessing=full), tmp_path / "out").exit_code == 5
    assert {row["code"] for row in table(tmp_path / "out" / "failures.csv")} == {code}


def test_a_bug_in_one_case_does_not_stop_the_others(pool, toy, tmp_path):
    calls = []

    def second_fails(data):
        calls.append(1)
        if len(calls) == 2:
            raise KeyError("PatientName DOE^JOHN")
        return toy.preprocessing(data)

    report = rank(pool, replace(toy, preprocessing=second_fails), tmp_path / "out")
    assert [case.status for case in report.cases] == ["done", "failed", "done"]
    assert report.exit_code == 6
    assert "DOE" not in (tmp_path / "out" / "failures.csv").read_text(encoding="utf-8")


def test_a_scan_outside_the_domain_is_refused_or_marked(pool, toy, tmp_path):
    write_nifti(pool / "some.nii.gz", doubtful(2, seed=2), np.diag([40.0, 40.0, 40.0, 1.0]))
    assert rank(pool, toy, tmp_path / "refused").exit_code == 6
    (row,) = table(tmp_path / "refused" / "failures.csv")
    assert row["code"] == "MS-X102"
    report = rank(pool, toy, tmp_path / "out", outside_domain=True)
    assert report.exit_code == 0
    assert {row["case"]: row["outside_domain"] for row in table(tmp_path / "out" / "rank.csv")} == {
        "none": "no", "some": "yes", "much": "no"
    }  # fmt: skip
    assert [bool(case.outside_domain) for case in report.cases] == [False, False, True]
    assert (tmp_path / "out" / "rank.html").read_text(encoding="utf-8").count("OUTSIDE TRAINING DOMAIN") == 1
    undeclared = rank(pool, replace(toy, domain=None), tmp_path / "undeclared")
    assert {case.mark for case in undeclared.ranked} == {"not declared"}


class Silent(torch.nn.Module):
    def forward(self, x):
        raise AssertionError("the network was asked again")


def test_a_resumed_run_looks_only_at_what_is_new(pool, toy, tmp_path):
    out = tmp_path / "out"
    rank(pool, toy, out, by="disagreement")
    first = (out / "rank.csv").read_bytes()
    silent = replace(toy, network=Silent(), members=lambda: (Silent(), Silent()))
    again = rank(pool, silent, out, by="disagreement", resume=True)
    assert [case.status for case in again.cases] == ["finished before"] * 3
    assert (out / "rank.csv").read_bytes() == first
    assert rank(pool, silent, out, by="entropy", first=1, resume=True).exit_code == 0
    assert table(out / "rank.csv")[0]["score"] == table(out / "rank.csv")[0]["entropy"]
    write_nifti(pool / "new.nii.gz", doubtful(5, seed=5), AFFINE)
    write_nifti(pool / "some.nii.gz", doubtful(3, seed=3), AFFINE)
    (out / "much" / "preview.png").write_bytes(b"")
    mixed = rank(pool, toy, out, by="disagreement", resume=True)
    assert {case.name: case.status for case in mixed.cases} == {
        "much": "done", "new": "done", "none": "finished before", "some": "done"
    }  # fmt: skip
    assert order(out) == [row.case for row in rank(pool, toy, tmp_path / "fresh", by="disagreement").ranked]


@pytest.mark.parametrize("damage", ["{", "{}", '{"schema": "medseg-record/1"}'])
def test_a_broken_record_is_made_again(pool, toy, tmp_path, damage):
    out = tmp_path / "out"
    rank(pool, toy, out)
    record = json.loads((out / "some" / "record.json").read_text(encoding="utf-8"))
    del record["measures"]["entropy"]
    (out / "some" / "record.json").write_text(json.dumps(record), encoding="utf-8")
    (out / "none" / "record.json").write_text(damage, encoding="utf-8")
    report = rank(pool, toy, out, resume=True)
    assert {case.name: case.status for case in report.cases} == {
        "much": "finished before", "none": "done", "some": "done"
    }  # fmt: skip


def test_a_folder_that_holds_something(pool, toy, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.doc").write_text("mine")
    with pytest.raises(OutputError, match="MS-O303"):
        rank(pool, toy, out)
    with pytest.raises(OutputError, match="MS-O304"):
        rank(pool, toy, out, resume=True)
    assert everything(out) == {"thesis.doc"}
    assert rank(pool, toy, out, overwrite=True).exit_code == 0
    assert (out / "thesis.doc").read_text() == "mine"
    with pytest.raises(OutputError, match="MS-O305"):
        rank(pool, replace(toy, uncertainty=Declared(mirrors=((0,),))), out, resume=True)


def test_a_folder_of_predict_is_not_resumed(pool, toy, tmp_path):
    from medseg.workflows.predict import predict

    predict(pool, toy, tmp_path / "out", views=False)
    before = {path: sha256(tmp_path / "out" / path) for path in everything(tmp_path / "out")}
    with pytest.raises(OutputError, match="MS-O305"):
        rank(pool, toy, tmp_path / "out", resume=True)
    with pytest.raises(OutputError, match="MS-O350"):
        rank(pool, toy, tmp_path / "out", overwrite=True)
    assert {path: sha256(tmp_path / "out" / path) for path in everything(tmp_path / "out")} == before


class Copies(Reporter):
    """Keeps what would be left if the machine stopped before the third case."""

    def __init__(self, out: Path, left: Path) -> None:
        self.out, self.left = out, left

    def case(self, name, number, total):
        if number == 3:
            shutil.copytree(self.out, self.left, ignore=shutil.ignore_patterns(".medseg*"))


def test_a_run_that_was_killed_is_resumed(pool, toy, tmp_path):
    whole = rank(pool, toy, tmp_path / "out", progress=Copies(tmp_path / "out", tmp_path / "left"))
    assert everything(tmp_path / "left") == {"record.json"} | {f"{c}/{file}" for c in ("much", "none") for file in CASE}
    assert json.loads((tmp_path / "left" / "record.json").read_text(encoding="utf-8"))["state"] == "running"
    again = rank(pool, toy, tmp_path / "left", resume=True)
    assert [case.status for case in again.cases] == ["finished before", "finished before", "done"]
    assert again.ranked == whole.ranked


def test_a_folder_in_use(pool, toy, tmp_path):
    code = (
        "import sys; from pathlib import Path; from medseg.workflows.lock import output_lock\n"
        "with output_lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline().strip() == b"held"
        with pytest.raises(OutputError, match="MS-O301"):
            rank(pool, toy, tmp_path / "out")
    finally:
        holder.communicate(b"")
    with output_lock(tmp_path / "out"):
        pass


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"by": "variance"}, "MS-U350"),
        ({"first": 0}, "MS-U351"),
        ({"resume": True, "overwrite": True}, "MS-U302"),
        ({"uncertainty": "bootstrap"}, "MS-U307"),
        ({"uncertainty": "mc"}, "MS-U146"),
        ({"uncertainty": "tta"}, "MS-U149"),
        ({"device": "toaster"}, "MS-U301"),
        ({"threads": 0}, "MS-U303"),
    ],
)
def test_wrong_usage_stops_before_anything_is_written(pool, toy, tmp_path, options, code):
    with pytest.raises(UsageError) as caught:
        rank(pool, toy, tmp_path / "out", **options)
    assert (caught.value.code, caught.value.exit_code) == (code, 2)
    assert not (tmp_path / "out").exists()


def test_a_bundle_without_anything_to_sample(pool, toy, tmp_path):
    with pytest.raises(UsageError, match="MS-U352"):
        rank(pool, replace(toy, uncertainty=Declared()), tmp_path / "out")
    with pytest.raises(BundleError):
        rank(pool, tmp_path / "no such bundle", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bundle_that_finds_instances(pool, toy, tmp_path):
    with pytest.raises(UsageError, match=r"MS-U353[\s\S]*--uncertainty mc"):
        rank(pool, finding(toy), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_sampled_where_nobody_says(toy):
    with_dropout = replace(toy, network=UNet(1, 3, features=(4, 8), dropout=0.1))
    assert default_method(with_dropout) == "mc"
    assert default_method(replace(toy, network=UNet(1, 3, features=(4, 8)))) == "ensemble"
    assert default_method(replace(toy, uncertainty=Declared(mirrors=((0,),)))) == "tta"
    assert default_method(replace(toy, uncertainty=Declared(points={"a": 0.1}, mirrors=((0,),)))) == "mc"


def test_nothing_to_rank(toy, tmp_path, pool):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="MS-C101"):
        rank(tmp_path / "empty", toy, tmp_path / "out")
    with pytest.raises(UsageError, match="MS-O306"):
        rank(pool, toy, pool / "out")


class Interrupts(Reporter):
    def case(self, name, number, total):
        if number == 3:
            raise KeyboardInterrupt


def test_an_interrupted_run_keeps_and_ranks_what_it_saw(pool, toy, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        rank(pool, toy, out, by="disagreement", progress=Interrupts())
    assert order(out) == ["much", "none"]
    assert json.loads((out / "record.json").read_text(encoding="utf-8"))["state"] == "interrupted"
    assert "1 not looked at; interrupted" in (out / "rank.html").read_text(encoding="utf-8")
    report = rank(pool, toy, out, by="disagreement", resume=True)
    assert [case.status for case in report.cases] == ["finished before", "finished before", "done"]
    assert order(out) == ["much", "some", "none"]


def test_a_stop_that_a_library_makes_an_error_of_still_stops(pool, toy, tmp_path, monkeypatch):
    def swallows(case, *_, **__):
        seen.append(case.name)
        try:
            raise Stopped(signal.SIGTERM)
        except BaseException:  # noqa: BLE001  as some libraries do
            raise ValueError(case.name) from None

    seen: list[str] = []
    monkeypatch.setattr("medseg.workflows.rank.look_at", swallows)
    with stoppable(), pytest.raises(Stopped):
        rank(pool, toy, tmp_path / "out")
    assert len(seen) == 1
    assert json.loads((tmp_path / "out" / "record.json").read_text(encoding="utf-8"))["state"] == "interrupted"


@pytest.mark.slow
def test_real_scans_with_copies_among_them(data, tmp_path):
    """Four hippocampi, and the most doubtful one three times more: as it is, and with a little noise."""
    images, pool, out = data("hippocampus") / "imagesTr", tmp_path / "pool", tmp_path / "out"
    pool.mkdir()
    for case in ("008", "039", "056", "067"):
        shutil.copy(images / f"hippocampus_{case}.nii.gz", pool / f"{case}.nii.gz")
    scan = nibabel.load(images / "hippocampus_056.nii.gz")
    array = np.asarray(scan.dataobj).astype(np.float32)
    for n, noise in enumerate((0.0, 0.002, 0.002)):
        noisy = array + noise * array.max() * np.random.default_rng(n).normal(size=array.shape).astype(np.float32)
        write_nifti(pool / f"056 copy {n}.nii.gz", np.where(array > 0, noisy.clip(0), 0), scan.affine)

    def medseg(*words):
        command = [sys.executable, "-m", "medseg", "rank", str(pool), "-b", "hippocampus_mri_segmentation"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [*command, "-o", str(out), "--uncertainty", "mc:4", "--threads", "1", "--json", *words],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip

    run = medseg()
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    names = [row["case"] for row in report["ranked"]]
    assert {name[:3] for name in names[:4]} == {"008", "039", "056", "067"}, "the first four are four patients"
    assert [row["case"] for row in table(out / "rank.csv")] == names
    by_doubt = sorted(report["ranked"], key=lambda row: -row["score"])
    assert len({row["case"][:3] for row in by_doubt[:4]}) < 4, "by the score alone they would not be"
    assert "7 of 7 cases looked at" in run.stderr
    (pool / "broken.nii.gz").write_bytes(b"nothing")
    again = medseg("--resume", "--first", "2")
    assert again.returncode == 6, again.stderr
    assert [row["case"] for row in json.loads(again.stdout)["ranked"]] == names[:2]
    assert [row["case"] for row in table(out / "failures.csv")] == ["broken"]
