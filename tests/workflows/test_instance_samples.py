from __future__ import annotations

import json
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from medseg.bundle.uncertainty import Declared
from medseg.errors import UsageError
from medseg.inferers.dropout import channel_mask
from medseg.labels import LabelTable
from medseg.workflows.instance_samples import check_instance_method
from medseg.workflows.measure import measure
from medseg.workflows.method import parse_method
from medseg.workflows.predict import predict
from medseg.workflows.segment import segment
from tests.workflows.instance_network import CLASSES, Dropping, Pieces, finding

SAMPLES, P = 12, 0.4


def dropping(toy, **inferer):
    return finding(toy, Dropping(P), **inferer)


def test_frequencies_against_the_masks_that_were_drawn(scan, toy):
    """Piece k of the scan is found by sample t if and only if channel k of its mask is kept."""
    bundle = dropping(toy)
    made = segment(scan, bundle, method=parse_method(f"mc:{SAMPLES}", seed=3))
    there = np.array([(channel_mask(3, t, 0, 8, P) > 0).numpy()[:3] for t in range(SAMPLES)]).mean(0)
    assert 0 < there.min() < there.max() < 1
    rows = made.instances.rows
    pieces = sorted(rows, key=lambda r: r.centroid_mm[0])  # the network sees RAS: in the order of their first voxel
    assert [r.agreed.frequency for r in pieces] == pytest.approx(there)
    assert [r.score for r in pieces] == pytest.approx(there * [1.0, 0.5, 1.0])
    assert [r.score for r in rows] == sorted((r.score for r in rows), reverse=True)
    for row in rows:
        told = row.agreed
        assert told.samples == SAMPLES
        assert told.rare == (told.frequency < 0.5)
        assert any("rare" in flag for flag in row.flags) == told.rare
        assert told.box_sd_mm == pytest.approx((0,) * 6)
        assert (told.volume_sd_ml, told.mask_iou, told.class_share) == pytest.approx((0, 1, 1))
    f = {r.id: r.agreed.frequency for r in rows}
    entropy = made.uncertainty.maps["entropy"]
    for number, p in f.items():
        want = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
        np.testing.assert_allclose(entropy[made.instances.ids.array == number], want, atol=2e-3)
    assert entropy[made.instances.ids.array == 0].max() == 0
    assert set(made.uncertainty.maps) == {"entropy"}
    assert bundle.network.encoder.times == 1, "what lies before the dropout is computed once"


def test_rare_ones_are_kept_and_marked(scan, toy):
    seed = next(s for s in range(99) if _shares(s).min() < 0.5 < _shares(s).max())
    made = segment(scan, dropping(toy), method=parse_method("mc:4", seed=seed))
    rare = [r for r in made.instances.rows if r.agreed.rare]
    assert rare
    assert all(r.voxels > 0 for r in rare)
    assert len(rare) < len(made.instances.rows)
    assert any(f"{len(rare)} of " in note and "fewer than half" in note for note in made.instances.notes)
    counted = made.instances.counted(measure(made.labels, CLASSES))
    assert sum(one.count for one in counted) == len(made.instances.rows)
    assert any("found by fewer than half" in flag for one in counted for flag in one.flags)


def _shares(seed):
    return np.array([(channel_mask(seed, t, 0, 8, P) > 0).numpy()[:3] for t in range(4)]).mean(0)


def test_what_lies_before_the_dropout_runs_once_a_tile(scan, toy):
    whole = segment(scan, dropping(toy), method=parse_method("mc:6"))
    tiled = dropping(toy, roi_size=(20, 22, 16), overlap=12)
    segment(scan, tiled, method=parse_method("mc:6"))
    assert tiled.network.encoder.times == len(tiled.inferer.tiles_over(whole.network_shape, tiled.network)) > 1


def test_an_ensemble_agrees_where_all_members_see_it(scan, toy):
    """The second member sees bright pieces only."""
    bundle = finding(toy)
    bundle = replace(bundle, members=lambda: (bundle.network, Pieces(0.7)))
    made = segment(scan, bundle, method=parse_method("ensemble"))
    told = {r.structure: r.agreed for r in made.instances.rows}
    assert (told["bright"].frequency, told["dim"].frequency) == (1.0, 0.5)
    assert np.isnan(told["dim"].score_sd)
    json_row = next(r for r in made.instances.rows if r.structure == "dim").to_json()
    assert json_row["score_sd"] is None
    assert json_row["box_sd_mm"] == {"R-L": [None, None], "A-P": [None, None], "S-I": [None, None]}
    assert made.uncertainty.doubt["dim"].volume_sd_ml == pytest.approx(np.std([0.375, 0], ddof=1))
    assert made.uncertainty.doubt["bright"].volume_sd_ml == 0
    assert made.uncertainty.doubt["dim"].entropy_inside == pytest.approx(1.0, abs=2e-3)


class FirstHalf(Pieces):
    """Sees nothing of the second half along the first axis: mirror images disagree."""

    def found(self, image):
        seen = image.clone()
        seen[:, image.shape[1] // 2 :] = 0
        return super().found(seen)


def test_mirror_images(scan, toy):
    bundle = finding(toy, flips=[2])
    made = segment(scan, bundle, method=parse_method("tta"))
    assert [r.agreed.frequency for r in made.instances.rows] == [1.0] * 3
    assert [r.agreed.samples for r in made.instances.rows] == [2] * 3, "the inferer's own flips are samples"
    declared = replace(finding(toy, FirstHalf()), uncertainty=Declared(mirrors=((0,), (1,))))
    made = segment(scan, declared, method=parse_method("tta"))
    assert {round(r.agreed.frequency, 3) for r in made.instances.rows} == {round(1 / 3, 3), round(2 / 3, 3)}
    plain = segment(scan, declared).instances
    assert len(plain.rows) < len(made.instances.rows) == 3


def test_left_and_right_are_swapped_back(scan, toy):
    sided = LabelTable.from_json(
        [{"value": 1, "name": "Left", "mirror": "Right"}, {"value": 2, "name": "Right", "mirror": "Left"}]
    )
    bundle = replace(finding(toy), labels=sided, uncertainty=Declared(mirrors=((0,),)))
    made = segment(scan, bundle, method=parse_method("tta"))  # class by brightness: the mirror image says the other one
    assert [r.agreed.class_share for r in made.instances.rows] == [0.5] * 3
    across = replace(bundle, uncertainty=Declared(mirrors=((2,),)))
    made = segment(scan, across, method=parse_method("tta"))
    assert [r.agreed.class_share for r in made.instances.rows] == [1.0] * 3


@pytest.mark.parametrize(
    ("method", "code"), [("mc", "MS-U146"), ("mc:1", "MS-U147"), ("tta", "MS-U149"), ("ensemble", "MS-U308")]
)
def test_what_a_bundle_cannot_do_is_refused_before_a_scan_is_read(toy, tmp_path, method, code):
    bundle = finding(toy, Dropping() if method == "mc:1" else Pieces())
    bundle = replace(bundle, members=lambda: (bundle.network,))
    with pytest.raises(UsageError) as caught:
        check_instance_method(parse_method(method), bundle)
    assert caught.value.code == code
    with pytest.raises(UsageError):
        predict(tmp_path, bundle, tmp_path / "out", uncertainty=method)


def test_the_files_of_a_run_with_samples(scans, toy, tmp_path):
    bundle, out = dropping(toy), tmp_path / "out"
    for case in ("a", "b"):
        report = predict(scans / f"{case}.nii.gz", bundle, out / case, uncertainty="mc:8", seed=1, samples=True)
        assert report.exit_code == 0
        folder = out / case / case
        names = {path.name for path in folder.iterdir()}
        assert names >= {"instances.nii.gz", "instances.json", "uncertainty_entropy.nii.gz", "uncertainty.ctbl"}
        assert "uncertainty_mutual_information.nii.gz" not in names
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        assert set(record["outputs"]) == names - {"record.json"}
        assert record["uncertainty"]["samples"] == 8
        assert "not defined" in record["uncertainty"]["mutual_information"]
        told = json.loads((folder / "instances.json").read_text(encoding="utf-8"))
        assert told["uncertainty"] == record["uncertainty"]
        for row in told["instances"]:
            assert set(row) >= {"detection_frequency", "rare", "score_mean", "score_sd", "box_sd_mm", "volume_sd_ml"}
        ids = np.asarray(nibabel.load(folder / "instances.nii.gz").dataobj)
        sequence = _samples(folder / "samples.seq.nrrd", ids.shape)
        for row in told["instances"]:
            found = [(one == row["id"]).any() for one in sequence]
            assert np.mean(found) == pytest.approx(row["detection_frequency"])
            assert all(np.array_equal(one == row["id"], ids == row["id"]) for one, f in zip(sequence, found, strict=True) if f)  # fmt: skip
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Found in" in page


def _samples(path, shape):
    import gzip

    raw = path.read_bytes()
    head, body = raw.split(b"\n\n", 1)
    text = head.decode()
    voxels = gzip.decompress(body) if "gzip" in text else body
    kind = {"uint8": "u1", "unsigned char": "u1", "uint16": "<u2", "unsigned short": "<u2", "ushort": "<u2"}
    name = next(line.split(": ")[1] for line in text.splitlines() if line.startswith("type: "))
    return np.moveaxis(np.frombuffer(voxels, kind[name]).reshape((*shape, -1), order="F"), -1, 0)


def test_nothing_found_by_any_sample(scan, toy):
    bundle = finding(toy, Dropping(P), min_score=1.5)
    made = segment(scan, bundle, method=parse_method("mc:3"))
    assert made.instances.rows == ()
    assert made.uncertainty.maps["entropy"].max() == 0
    assert not made.labels.array.any()


def test_the_inferer_is_left_as_it_was(scan, toy):
    bundle = dropping(toy)
    calls = []
    segment(scan, bundle, method=parse_method("mc:3"), progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (1, 1)
    assert bundle.inferer.progress is None
    plain = segment(scan, bundle).instances
    assert [round(r.score, 3) for r in plain.rows] == [1.0, 1.0, 0.5], "no dropout stays behind"
