from __future__ import annotations

import numpy as np
import pytest

from medseg.errors import MissingExtraError, OutputError
from medseg.readers.nifti import read_nifti
from medseg.volume import Volume
from medseg.workflows import demo
from medseg.workflows.demo import crop_mm, load_template, run_demo, what_to_open


def test_crop_holds_the_point_at_its_centre_whatever_the_axis_order():
    array = np.arange(20 * 20 * 20).reshape(20, 20, 20)
    volume = Volume(array, np.array([[1.0, 0, 0, -10], [0, 1, 0, -10], [0, 0, 2, -20], [0, 0, 0, 1]]))
    for axcodes in ("RAS", "LPS", "SRA"):
        crop = crop_mm(volume.reoriented(axcodes), (0, 2, 4), (4, 6, 8))
        assert crop.array.shape == (4, 6, 4)
        assert np.array_equal(crop.array, array[8:12, 9:15, 10:14])
        assert np.allclose(crop.grid.to_world(np.zeros(3)), volume.grid.to_world(np.array([8, 9, 10])))


def test_the_template_is_the_mni_brain():
    pytest.importorskip("nilearn", reason="the demo's extra is not installed")
    template = load_template()
    assert template.array.shape == (197, 233, 189)
    assert template.spacing_mm == (1, 1, 1)
    assert np.allclose(template.affine[:3, 3], (-98, -134, -72))


def test_a_missing_nilearn_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'MS-U305 .*not installed\n  -> pip install "medseg\[demo\]"'):
        run_demo(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_demo_runs_from_files_to_files_and_again(toy, tmp_path):
    pytest.importorskip("nilearn", reason="the demo's extra is not installed")
    out = tmp_path / "out"
    report = run_demo(out, bundle=toy, uncertainty=None)
    assert report.exit_code == 0, report.failures
    for name, x in (("mni152_hippocampus_left", -27), ("mni152_hippocampus_right", 27)):
        image, labels = (read_nifti(out / name / file) for file in ("image.nii.gz", "segmentation.nii.gz"))
        assert image.array.shape == labels.array.shape == (32, 56, 40)
        assert np.abs(image.grid.corners_mm.mean(axis=0) - (x, -22, -14)).max() <= 0.5
        assert (out / name / "preview.png").is_file()
    assert any("preview.png" in line for line in what_to_open(report))
    assert run_demo(out, bundle=toy, uncertainty=None).exit_code == 0, "a second demo replaces the first"


def test_the_demo_leaves_a_folder_of_others_alone(toy, tmp_path):
    pytest.importorskip("nilearn", reason="the demo's extra is not installed")
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(OutputError, match=r"MS-O303 .*not from an earlier demo"):
        run_demo(tmp_path, bundle=toy)
