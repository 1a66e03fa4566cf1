"""`scripts/phantom`: what each preset promises, and that one seed gives one data set, byte for byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

import medseg
from medseg.training.datalist import datalist
from medseg.transforms import InstancesFromLabeld, to_metatensor
from medseg.transforms.instances import BOX_ONLY
from medseg.writers.atomic import sha256

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from phantoms import PRESETS, make  # noqa: E402
from phantoms.boxed import strip_to_boxes  # noqa: E402
from phantoms.dataset import case_seed, write_dataset  # noqa: E402
from phantoms.run import main  # noqa: E402
from phantoms.solids import KINDS, Solid, any_turn, rasterise, window  # noqa: E402

SEEDS = range(3)


def boxes(instances: np.ndarray) -> dict[int, np.ndarray]:
    found = enumerate(ndimage.find_objects(instances), 1)
    return {n: np.array([[s.start for s in p], [s.stop for s in p]]) for n, p in found if p is not None}


def box_iou(a: np.ndarray, b: np.ndarray) -> float:
    shared = np.prod(np.clip(np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]), 0, None))
    return shared / (np.prod(a[1] - a[0]) + np.prod(b[1] - b[0]) - shared)


def touching(instances: np.ndarray) -> set[int]:
    """Instances of which a voxel is a neighbour (of 26) of another instance's."""
    filled = np.where(instances > 0, instances.astype(int), 1 << 20)
    low, high = ndimage.minimum_filter(filled, 3), ndimage.maximum_filter(instances.astype(int), 3)
    return set(np.unique(instances[(instances > 0) & ((low != instances) | (high != instances))]).tolist())


# --- solids


@settings(max_examples=20)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 999), spacing=st.sampled_from([(1, 1, 1), (0.5, 1, 2)]))
def test_a_solid_fills_its_volume_in_closed_form_and_its_extent_encloses_it(kind, seed, spacing):
    rng = np.random.default_rng(seed)
    half, bore = rng.uniform(9, 14, 3), 0.5
    solid = Solid(kind, half, any_turn(rng), bore)
    _, mask = rasterise(solid, rng.uniform(-5, 5, 3), np.array(spacing, float))
    a, b, c = half
    expected = {
        "ellipsoid": 4 / 3 * np.pi * a * b * c,
        "cuboid": 8 * a * b * c,
        "tube": 2 * a * np.pi * b * c * (1 - bore**2),
        "channelled": 8 * a * b * c * (1 - bore**2),
    }[kind]
    assert mask.sum() * np.prod(spacing) == pytest.approx(expected, rel=0.03)
    assert list(mask.shape) == pytest.approx((2 * solid.extent_mm / spacing).tolist(), abs=2.1), "the extent is tight"
    assert np.all(np.ptp(np.argwhere(mask), axis=0) * spacing <= 2 * solid.extent_mm + 1e-9)


def test_the_worked_example():
    low, mask = rasterise(Solid("cuboid", np.full(3, 2.0), np.eye(3)), np.full(3, 5.0), np.ones(3))
    assert (low + np.argwhere(mask).min(0)).tolist() == [3, 3, 3]
    assert (low + np.argwhere(mask).max(0)).tolist() == [6, 6, 6]


@given(seed=st.integers(0, 999))
def test_turns_are_rotations(seed):
    turn = any_turn(np.random.default_rng(seed))
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)


@given(low=st.tuples(*[st.integers(-6, 8)] * 3))
def test_a_window_is_the_part_inside(low):
    mask = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    padded = np.zeros((20, 20, 20), int)
    padded[tuple(slice(6 + a, 6 + a + n) for a, n in zip(low, mask.shape, strict=True))] = mask
    found = np.zeros((5, 5, 5), int)
    here, part = window(np.array(low), mask, (5, 5, 5))
    found[here] = part
    np.testing.assert_array_equal(found, padded[6:11, 6:11, 6:11])


# --- presets


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_keeps_the_common_promises(preset):
    for seed in range(2):
        made = make(preset, seed, 40)
        assert made.image.dtype == np.float32
        assert made.instances.dtype == np.uint16
        assert made.image.shape == made.instances.shape
        count = len(made.classes)
        assert list(made.classes) == list(range(1, count + 1))
        assert set(np.unique(made.instances).tolist()) == set(range(count + 1))
        assert set(made.classes.values()) <= set(range(len(made.names)))
        bright = made.image[made.instances > 0].mean() - made.image[made.instances == 0].mean()
        assert bright > 0.15, "instances are brighter than the rest"
        np.testing.assert_array_equal(made.image * 1024, np.round(made.image * 1024))
        pieces = [cc3d.connected_components(made.instances == n, connectivity=26).max() for n in made.classes]
        assert pieces == [1] * count
        again, other = make(preset, seed, 40), make(preset, seed + 1, 40)
        assert again.image.tobytes() == made.image.tobytes()
        assert again.instances.tobytes() == made.instances.tobytes()
        assert again.classes == made.classes
        assert other.image.tobytes() != made.image.tobytes()


@pytest.mark.parametrize("size", [24, 48, 80])
def test_cubes_are_nndetections_toy(size):
    kinds, places = set(), set()
    for seed in range(8):
        made = make("cubes", seed, size)
        ((low, high),) = boxes(made.instances).values()
        side = high[0] - low[0]
        assert (high - low == side).all()
        mask = made.instances > 0
        cube = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        if made.classes[1] == 0:
            assert cube.all()
        else:  # a square channel, open at both ends of axis 0, in the middle
            assert (cube == cube[0]).all()
            hole = ~cube[0]
            wall = np.flatnonzero(hole.any(0))[0]
            assert 1 <= wall < side / 2
            expected = np.zeros((side, side), bool)
            expected[wall : side - wall, wall : side - wall] = True
            np.testing.assert_array_equal(hole, expected)
        assert made.image.min() >= 0
        assert made.image.max() <= 1
        assert made.image[mask].min() >= 0.4 - 1e-3
        assert made.image[~mask].mean() == pytest.approx(0.5, abs=0.02)
        kinds.add(made.classes[1])
        places.add(tuple(low))
    assert kinds == {0, 1}
    assert len(places) == 8


def test_several_cubes_stand_apart():
    made = make("cubes", 0, 64, objects=(4, 4))
    assert len(made.classes) == 4
    assert touching(made.instances) == set()


def test_shapes_stand_apart_and_crowded_ones_touch():
    apart, packed = make("shapes", 0, 48), make("crowded", 0, 48)
    assert touching(apart.instances) == set()
    assert len(packed.classes) > 5 * len(apart.classes)
    assert len(touching(packed.instances)) > 0.8 * len(packed.classes)
    assert set(packed.classes.values()) == {0, 1, 2}


def test_a_tubes_channel_goes_through():
    for seed in SEEDS:
        made = make("shapes", seed, 64)
        for number, kind in made.classes.items():
            mask = made.instances == number
            if mask[[0, -1]].any() or mask[:, [0, -1]].any() or mask[:, :, [0, -1]].any():
                continue
            holes = ndimage.binary_fill_holes(mask).sum() - mask.sum()
            assert holes == 0, "nothing is enclosed: a channel has two ends"
            # Euler's number of a solid ring is 0, of a ball 1.
            from skimage.measure import euler_number

            assert euler_number(mask, connectivity=3) == (0 if kind == 2 else 1)


def test_anisotropic_slices_are_four_times_as_thick():
    made = make("anisotropic", 0, 48)
    assert made.spacing_mm == (1, 1, 4)
    assert made.image.shape == (48, 48, 12)
    assert make("anisotropic", 0, (20, 30, 10), objects=(1, 2)).image.shape == (20, 30, 10)


def test_parallel_ellipsoids_share_half_their_boxes_and_no_voxel():
    for seed in range(6):
        made = make("parallel", seed, 48)
        found = boxes(made.instances)
        partners = {n: [m for m in found if m != n and 0.4 <= box_iou(found[n], found[m]) <= 0.6] for n in found}
        assert all(partners.values()), "every one has a neighbour that box suppression takes for its duplicate"
        for n in found:
            where = np.argwhere(made.instances == n)
            spread, axes = np.linalg.eigh(np.cov(where.T))
            assert spread[2] > 9 * spread[1], "elongated"
            along = np.sort(np.abs(axes[:, 2]))
            np.testing.assert_allclose(along, [0, np.sqrt(0.5), np.sqrt(0.5)], atol=0.05)


def test_border_cuts_every_instance():
    for seed in SEEDS:
        made = make("border", seed, 48)
        for low, high in boxes(made.instances).values():
            assert (low == 0).any() or (high == 48).any()


def test_tiny_ones_have_three_to_five_voxels_along_each_axis():
    sides = np.concatenate([high - low for s in SEEDS for low, high in boxes(make("tiny", s, 48).instances).values()])
    assert set(sides.tolist()) == {3, 4, 5}


def test_the_number_of_instances_can_be_asked_for():
    assert len(make("tiny", 3, 48, objects=(6, 6)).classes) == 6
    assert len(make("shapes", 3, 48, objects=(1, 1)).classes) == 1


def test_what_cannot_be_made_is_refused():
    with pytest.raises(ValueError, match="there are cubes, shapes"):
        make("spheres", 0)
    with pytest.raises(ValueError, match="larger size"):
        make("tiny", 0, 2)


# --- instances that are only boxes


@given(values=arrays(np.uint16, (5, 6, 7), elements=st.integers(0, 4)), data=st.data())
def test_boxes_stay_and_masks_of_others_are_whole(values, data):
    there = sorted(boxes(values))
    ids = data.draw(st.sets(st.sampled_from(there))) if there else set()
    out = strip_to_boxes(values, ids)
    assert {n: b.tolist() for n, b in boxes(out).items()} == {n: b.tolist() for n, b in boxes(values).items()}
    np.testing.assert_array_equal(out[values > 0], values[values > 0])
    for n in set(there) - ids:
        np.testing.assert_array_equal(out == n, values == n)
    for n in ids:
        low, high = boxes(values)[n]
        assert (out[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] > 0).all()


# --- folders


def run(*words: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "phantoms" / "run.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def left() -> int | str | None:
    """The exit status of the command in this process."""
    try:
        return main()
    except SystemExit as end:  # argparse's way
        return end.code


def hashes(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_command_writes_a_data_set_that_medseg_reads(tmp_path):
    words = ["anisotropic", "--train", 3, "--test", 1, "--size", 32, "--seed", 7, "--box-only", 0.5]
    done = run(*words, "-o", tmp_path / "a", "--picture", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    written = hashes(tmp_path / "a")
    assert run(*words, "-o", tmp_path / "b").returncode == 0
    assert hashes(tmp_path / "b") == written, "same seed, same bytes, also in another process"
    assert len(written) == 1 + 4 * 3
    content = json.loads((tmp_path / "a" / "dataset.json").read_text(encoding="utf-8"))
    assert content["instances"] == {"classes": ["ellipsoid", "cuboid", "tube"]}
    assert (content["numTraining"], content["numTest"]) == (3, 1)

    listed = [row for part in ("train", "val") for row in datalist(str(tmp_path / "a"), part)]
    assert [Path(row["label"]).name for row in sorted(listed, key=str)] == [
        f"anisotropic_00{n}.nii.gz" for n in range(3)
    ]
    boxed = 0
    for number, row in enumerate(sorted(listed, key=str)):
        made = make("anisotropic", case_seed(7, "Tr", number), 32)
        image, label = medseg.read(row["image"]), medseg.read(row["label"])
        np.testing.assert_array_equal(image.array, made.image)
        assert image.spacing_mm == label.spacing_mm == (1, 1, 4)
        assert label.array.dtype == np.uint16
        np.testing.assert_allclose(image.grid.to_world((np.array(image.array.shape) - 1) / 2), 0, atol=1e-6)
        out = InstancesFromLabeld("label", num_classes=3, box_only_as="box")({"label": to_metatensor(label)})
        assert out["classes"].tolist() == [-1, *made.classes.values()]
        ids = np.flatnonzero(out["flags"].numpy() == BOX_ONLY).tolist()
        np.testing.assert_array_equal(out["label"][0].numpy(), strip_to_boxes(made.instances, ids))
        boxed += len(ids)
    assert 0 < boxed < sum(len(make("anisotropic", case_seed(7, "Tr", n), 32).classes) for n in range(3))


def test_no_two_cases_share_a_seed(tmp_path):
    seeds = [case_seed(s, part, n) for s in (0, 1, 2) for part in ("Tr", "Ts") for n in (0, 1, 49_999)]
    assert len(set(seeds)) == len(seeds)
    write_dataset(tmp_path / "more", "tiny", train=2, test=1, size=24)
    write_dataset(tmp_path / "less", "tiny", train=1, test=1, size=24)
    more, less = hashes(tmp_path / "more"), hashes(tmp_path / "less")
    assert less.items() - more.items() == {("dataset.json", less["dataset.json"])}, "more cases change no other"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cubes"], "say where to"),
        (["spheres", "-o", "x"], "invalid choice"),
        (["cubes", "-o", "x", "--size", "4,5"], "one size in mm or three"),
        (["cubes", "-o", "x", "--objects", "5-2"], "least and most"),
        (["cubes", "-o", "x", "--box-only", "2"], "from 0 to 1"),
        (["cubes", "-o", "x", "--train", "-1"], "from 0 to 50000"),
        (["cubes", "-o", "x", "--size", "2"], "larger size"),
    ],
)
def test_wrong_words_are_explained(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.setattr(sys, "argv", ["phantom", *(str(tmp_path / "x") if w == "x" else w for w in words)])
    assert left() == 2
    assert said in capsys.readouterr().err


def test_a_folder_in_use_is_not_written_to(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["phantom", "cubes", "-o", str(tmp_path)])
    assert left() == 2
    assert "is not empty" in capsys.readouterr().err
    assert hashes(tmp_path).keys() == {"mine.txt"}


def test_the_entry_is_sound_shell_and_executable():
    path = ROOT / "scripts" / "phantom"
    assert subprocess.run(["sh", "-n", str(path)], check=False).returncode == 0
    assert os.access(path, os.X_OK)
