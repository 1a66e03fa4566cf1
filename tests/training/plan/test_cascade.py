"""When a locator is planned, how it looks at scans, and the whole way from a plan to a prediction."""

from __future__ import annotations

import json
from math import prod

import nibabel as nib
import numpy as np
import pytest

from medseg.bundle.load import load_bundle
from medseg.errors import UsageError
from medseg.geometry import same_space
from medseg.readers.open import read
from medseg.training.plan.cascade import MOST, cascade_for
from medseg.training.plan.check import check_dataset
from medseg.training.plan.plan import plan_bundle
from medseg.training.plan.sources import find_source
from medseg.training.plan.spacing import sizes_at
from medseg.training.train import train_bundle
from medseg.workflows.method import Method
from medseg.workflows.segment import segment

MM = (1.0, 1.0, 1.0)


def decide(facts, spacing=MM, patch=(64, 64, 64), wanted=None):
    return cascade_for(facts, sizes_at(facts, spacing), spacing, patch, wanted)


def test_a_small_structure_in_a_large_scan_is_located_first(fact):
    found, said = decide([fact(shape=(300, 300, 200), labelled_mm=(30.0, 40.0, 20.0))])
    assert found is not None
    # Cells of 6 voxels: 50 x 50 x 34 = 85,000 of at most 110,592; with 5 there would be 60 x 60 x 40.
    assert found.factors == (6, 6, 6)
    assert prod(-(-n // 6) for n in (300, 300, 200)) <= MOST < prod(-(-n // 5) for n in (300, 300, 200))
    assert found.window == (56, 56, 40)
    assert not found.several
    assert found.margin == (10, 10, 10)
    # (30 + 20) (40 + 20) (20 + 20) / (300 x 300 x 200) = 0.0067; windows 9 x 9 x 6 = 486, and 1.
    assert "at most 0.0067 of the scan" in said.why
    assert "takes 486 windows, that box 1;" in said.why


@pytest.mark.parametrize(
    ("shape", "edges", "why"),
    [((300, 300, 200), (200.0, 200.0, 150.0), "large"), ((96, 96, 64), (9.0, 9.0, 9.0), "few windows")],
)
def test_large_structures_and_small_scans_are_not(fact, shape, edges, why):
    del why
    assert decide([fact(shape=shape, labelled_mm=edges)])[0] is None


def test_nine_of_ten_cases_decide(fact):
    small = [fact(shape=(300, 300, 200), labelled_mm=(30.0, 40.0, 20.0)) for _ in range(19)]
    large = [fact(shape=(300, 300, 200), labelled_mm=(250.0, 250.0, 150.0)) for _ in range(4)]
    assert decide([*small, large[0]])[0] is not None
    assert decide([*small, *large])[0] is None


def test_cases_without_a_structure_do_not_decide_alone(fact):
    empty = fact(shape=(300, 300, 200))
    assert decide([empty])[0] is None
    assert decide([empty, fact(shape=(300, 300, 200), labelled_mm=(9.0, 9.0, 9.0))])[0] is not None


def test_what_is_asked_for_is_done_and_said(fact):
    small, large = fact(labelled_mm=(80.0, 80.0, 80.0)), fact(shape=(300, 300, 200), labelled_mm=(9.0, 9.0, 9.0))
    found, said = decide([small], wanted=True)
    assert found is not None
    assert said.why.startswith("as asked for by --cascade;")
    found, said = decide([large], wanted=False)
    assert found is None
    assert said.why.startswith("as asked for by --no-cascade;")


def test_cells_are_cubes_in_space_whatever_the_voxels_are(fact):
    found, _ = decide(
        [fact(shape=(400, 400, 60), spacing=(0.8, 0.8, 5.0), labelled_mm=(40.0, 40.0, 40.0))], spacing=(0.8, 0.8, 5.0)
    )
    assert found is not None
    assert found.spacing_mm[2] / found.spacing_mm[0] == pytest.approx(1.0, abs=0.35)
    assert found.factors[0] == found.factors[1] > found.factors[2] >= 1
    assert all(m * mm >= 10 for m, mm in zip(found.margin, (0.8, 0.8, 5.0), strict=True))


def test_thin_structures_are_looked_at_more_closely_in_several_looks(fact):
    whole, _ = decide([fact(shape=(400, 400, 400), labelled_mm=(60.0, 60.0, 60.0))])
    closer, _ = decide([fact(shape=(400, 400, 400), labelled_mm=(60.0, 60.0, 8.0))])
    assert whole is not None
    assert closer is not None
    assert max(closer.factors) < max(whole.factors)
    assert closer.several
    assert not whole.several
    assert prod(closer.window) <= 2 * MOST


def test_the_box_around_all_that_is_labelled_is_measured_in_mm(maker):
    label = np.zeros((20, 22, 24), np.uint8)
    label[3:5, 4:10, 5], label[10, 4, 20] = 1, 2
    maker.case("a", 0, labels=label, spacing=(1.0, 2.0, 3.0))
    (facts,), _, _ = check_dataset(find_source(maker.root))
    assert facts.labelled_mm == (8.0, 12.0, 48.0)


def config(bundle, name):
    return json.loads((bundle / "configs" / f"{name}.json").read_text(encoding="utf-8"))


def test_instances_have_no_cascade(blocks, tmp_path):
    with pytest.raises(UsageError, match="MS-T153"):
        plan_bundle(blocks, tmp_path / "blocks_instance_segmentation", task="instances", cascade=True)


def test_regions_are_located_too(maker, tmp_path):
    for n in range(2):
        label = np.zeros((24, 24, 24), np.uint8)
        label[8:14, 8:14, 8:14], label[10:12, 10:12, 10:12] = 1, 2
        maker.case(f"tumour_{n}", n, labels=label)
    maker.say(
        channel_names={"0": "T1"}, labels={"background": 0, "whole": [1, 2], "core": [2]}, regions_class_order=[1, 2]
    )
    found = plan_bundle(maker.root, tmp_path / "tumour_segmentation", measure=False, cascade=True)
    assert found.problems == ()
    train = config(found.bundle, "train")
    assert train["validate"]["inferer"]["inferer"]["regions"] == [1, 2]
    train_bundle(found.bundle, maker.root, tmp_path / "run", epochs=1)


EPOCHS = 8
SHAPE, VOXEL_MM = (64, 64, 32), (1.0, 1.0, 2.0)


def phantom(n: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright ball of 6 mm somewhere in noise, on voxels of 1 x 1 x 2 mm."""
    rng = np.random.default_rng(n)
    centre = rng.uniform(14, 50, 3)
    grid = np.stack(np.meshgrid(*[np.arange(s) * mm for s, mm in zip(SHAPE, VOXEL_MM, strict=True)], indexing="ij"), -1)
    label = (np.linalg.norm(grid - centre, axis=-1) <= 6).astype(np.uint8)
    return (100 + 120.0 * label + rng.normal(0, 10, SHAPE)).astype(np.float32), label


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A plan with a locator, trained for 160 steps."""
    root = tmp_path_factory.mktemp("cascade")
    for n in range(4):
        image, label = phantom(n)
        for folder, array in (("imagesTr", image), ("labelsTr", label)):
            (root / "data" / folder).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.diag([*VOXEL_MM, 1.0])), root / "data" / folder / f"ball_{n}.nii.gz")
    said = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "ball": 1}}
    (root / "data" / "dataset.json").write_text(json.dumps(said), encoding="utf-8")
    found = plan_bundle(root / "data", root / "ball_segmentation", memory="1.12GB", measure=False, cascade=True)
    assert found.problems == ()
    report = (found.bundle / "docs" / "plan.md").read_text(encoding="utf-8")
    assert "as asked for by --cascade" in report
    assert config(found.bundle, "train")["patch_size"] == [32, 32, 16]
    assert "a median scan takes 27 windows" in report
    return train_bundle(found.bundle, root / "data", root / "run", epochs=EPOCHS)


def stored_obliquely(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An array on patient axes as a file may hold it: slices first, one axis backwards, the patient turned by 12 degrees."""
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.21), -np.sin(0.21)], [np.sin(0.21), np.cos(0.21)]]
    turn[:3, 3] = (-31, 12, 55)
    file = np.zeros((4, 4))  # from a voxel of the file to one of `image`
    file[0, 1], file[1, 2], file[2, 0], file[3, 3] = 1, -1, 1, 1
    file[1, 3] = image.shape[1] - 1
    return np.ascontiguousarray(image.transpose(2, 0, 1)[:, :, ::-1]), turn @ np.diag([*VOXEL_MM, 1.0]) @ file


def dice(ours: np.ndarray, theirs: np.ndarray) -> float:
    return 2 * float((ours * theirs).sum()) / float(ours.sum() + theirs.sum())


def counted(volume, bundle, **more):
    """A segmentation and how many windows it took."""
    windows = []
    return segment(volume, bundle, progress=lambda done, of: windows.append(of), **more), windows[-1]


@pytest.mark.slow
def test_a_trained_cascade_visits_far_fewer_windows_and_says_the_same(run, tmp_path):
    image, label = phantom(9)
    array, affine = stored_obliquely(image)
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "scan.nii.gz")
    volume = read(tmp_path / "scan.nii.gz")
    bundle = load_bundle(run)
    located, few = counted(volume, bundle)
    assert located.events[0].code == "MS-M223"
    uncertain, _ = counted(volume, bundle, method=Method("mc", 3))
    locate, bundle.inferer.locate = bundle.inferer.locate, None
    whole, many = counted(volume, bundle)
    assert locate.margin == (10, 10, 5)
    assert few * 3 <= many  # the margin is large beside so small a scan
    truth = stored_obliquely(label)[0]
    assert dice(located.labels.array, truth) > 0.9
    assert dice(uncertain.labels.array, truth) > 0.9
    assert uncertain.uncertainty is not None
    assert uncertain.uncertainty.maps["entropy"].max() > 0
    assert dice(located.labels.array, whole.labels.array) > 0.97  # windows lie elsewhere, so single voxels may differ
    assert same_space(located.labels.grid, volume.grid)
