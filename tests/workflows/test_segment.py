from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import SlidingWindowInferer as MonaiInferer
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    EnsureTyped,
    Invertd,
    Lambdad,
    NormalizeIntensityd,
    Orientationd,
    ScaleIntensityd,
    Spacingd,
)

from medseg.errors import BundleError, InputError, MemoryLimitError
from medseg.workflows.segment import segment

CODES = [a + b + c for a in "RL" for b in "AP" for c in "SI"]
ORDERS = ["".join(code[i] for i in order) for code in CODES for order in [(0, 1, 2), (1, 2, 0), (2, 1, 0)]]


@pytest.fixture
def want(truth, scan):
    return truth(scan.array)


def test_the_right_answer_on_the_inputs_own_grid(scan, toy, want):
    calls = []
    made = segment(scan, toy, progress=lambda done, total: calls.append((done, total)))
    assert np.array_equal(made.labels.array, want)
    assert made.labels.array.dtype == np.uint8
    assert np.array_equal(made.labels.affine, scan.affine)
    assert made.labels.labels is toy.labels
    assert made.cleaned_ml["bright"] == pytest.approx(0.003)
    assert calls[-1] == (8, 8)
    assert set(made.seconds) == {"preprocess", "infer", "restore"}
    assert toy.inferer.progress is None, "the bundle is left as it was"


@given(st.sampled_from(ORDERS))
@settings(max_examples=12)
def test_labels_do_not_depend_on_the_axis_order(scan, toy, want, axcodes):
    made = segment(scan.reoriented(axcodes), toy).labels
    assert made.grid.axcodes == axcodes
    assert np.array_equal(made.reoriented("LAS").array, want)


def zoo(toy, *post, spacing=None):
    """The toy as a bundle of MONAI's model zoo would be written."""
    pre = [Orientationd(keys="image", axcodes="RAS", labels=None)]
    if spacing:
        pre.append(Spacingd(keys="image", pixdim=spacing, mode="bilinear"))
    pre += [ScaleIntensityd(keys="image"), EnsureTyped(keys="image")]
    pre = Compose(pre)
    steps = [
        Activationsd(keys="pred", softmax=True),
        Invertd(keys="pred", transform=pre, orig_keys="image", nearest_interp=False, to_tensor=True),
        AsDiscreted(keys="pred", argmax=True),
    ]
    return replace(
        toy,
        preprocessing=pre,
        inferer=MonaiInferer(roi_size=(16, 16, 16), overlap=0.25, sw_batch_size=2),
        postprocessing=Compose([*steps, *post]),
    )


def test_a_bundle_written_as_in_the_model_zoo_runs_too(scan, toy, want):
    made = segment(scan, zoo(toy))
    want[2, 2, 15] = 2  # its postprocessing does not clean
    assert np.array_equal(made.labels.array, want)
    assert made.labels.array.dtype == np.uint8
    assert made.events == ()


def test_a_zoo_bundle_that_resamples_comes_back_on_the_inputs_grid(scan, toy, want):
    made = segment(scan, zoo(toy, spacing=(1.3, 1.3, 1.3)))
    assert made.labels.array.shape == scan.array.shape
    inside = want == 2
    assert (made.labels.array[inside] == 2).mean() > 0.6


@pytest.mark.parametrize(
    ("step", "code", "says"),
    [
        (lambda x: torch.cat([x, x]), "MS-O320", "array of shape .2, 20, 22, 18."),
        (lambda x: x * 0.5, "MS-O320", "values from 0 to 1"),
        (lambda x: x * 70000, "MS-O320", "0 to 65535"),
        (lambda x: x[:, 1:], "MS-O321", "shape .19, 22, 18."),
        (lambda x: _moved(x), "MS-O321", "corners up to 0.5 mm away"),
        (lambda x: x.reshape(3, 5), "MS-O322", "RuntimeError in"),
    ],
)
def test_a_postprocessing_that_gives_no_label_map_on_the_inputs_grid_is_refused(scan, toy, step, code, says):
    with pytest.raises(BundleError, match=says) as caught:
        segment(scan, zoo(toy, Lambdad(keys="pred", func=step)))
    assert caught.value.code == code
    assert caught.value.file == str(toy.root)
    assert caught.value.mend


def _moved(x):
    x.affine[0, 3] += 0.5
    return x


def test_many_labels_take_two_bytes(scan, toy):
    made = segment(scan, zoo(toy, Lambdad(keys="pred", func=lambda x: x * 400)))
    assert made.labels.array.dtype == np.uint16
    assert made.labels.array.max() == 800


def raising(error):
    def inferer(inputs, network):
        raise error

    return inferer


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_no_memory_is_told_as_such(scan, toy, error):
    with pytest.raises(MemoryLimitError, match="MS-M310"):
        segment(scan, replace(toy, inferer=raising(error)))


def test_other_errors_of_a_network_stay_what_they_are(scan, toy):
    with pytest.raises(RuntimeError, match="shape mismatch"):
        segment(scan, replace(toy, inferer=raising(RuntimeError("shape mismatch"))))


def test_medsegs_own_refusal_in_a_transform_comes_through(scan, toy):
    def refuse(x):
        raise InputError("MS-N101", "no", mend="copy it")

    with pytest.raises(InputError, match="MS-N101"):
        segment(scan, replace(toy, preprocessing=Compose([Lambdad(keys="image", func=refuse)])))


def test_no_memory_in_a_transform(scan, toy):
    def full(x):
        raise MemoryError

    with pytest.raises(MemoryLimitError):
        segment(
            scan, replace(toy, preprocessing=Compose([Lambdad(keys="image", func=full), NormalizeIntensityd("image")]))
        )
