"""Engines: exported files are called as networks are, and compute what the arithmetic says."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

from medseg.errors import BundleError, MissingExtraError, UsageError
from medseg.inferers import engine as engines
from medseg.inferers.engine import Engine, engine_of, library
from medseg.inferers.engine_names import SUFFIXES
from medseg.inferers.ensemble import Ensemble
from medseg.inferers.mirrored import Mirror, Mirrored
from medseg.inferers.sliding import SlidingWindowInferer
from medseg.inferers.uncertain import UncertainInferer

if absent := [name for name in ("onnx", "onnxruntime", "openvino") if find_spec(name) is None]:
    pytest.skip(f"{absent[0]} absent (install medseg[export])", allow_module_level=True)
FREE = ("n", 1, "d", "h", "w")


class Classes(nn.Module):
    """Scores of 3 classes by plain arithmetic on the grey value: 0, x - 0.4 and 2 x - 1.1."""

    def forward(self, x):
        return torch.cat([torch.zeros_like(x), x - 0.4, 2 * x - 1.1], 1)


def write_classes(path, shape=FREE):
    """`Classes` as an ONNX file, written by hand."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def constant(name, value):
        return numpy_helper.from_array(np.asarray(value, np.float32), name)

    nodes = [
        helper.make_node("Mul", ["image", "nought"], ["none"]),
        helper.make_node("Sub", ["image", "low"], ["dim"]),
        helper.make_node("Mul", ["image", "two"], ["twice"]),
        helper.make_node("Sub", ["twice", "high"], ["bright"]),
        helper.make_node("Concat", ["none", "dim", "bright"], ["logits"], axis=1),
    ]
    values = {"nought": 0.0, "low": 0.4, "two": 2.0, "high": 1.1}
    graph = helper.make_graph(
        nodes,
        "classes",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (shape[0], 3, *shape[2:]))],
        [constant(*item) for item in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def file(kind, tmp_path_factory):
    """`file(shape)`: the classes for that shape, in the engine's own format."""

    def write(shape=FREE):
        path = write_classes(tmp_path_factory.mktemp("models") / "model.onnx", shape)
        if kind == "onnx":
            return path
        openvino = library("openvino")
        openvino.save_model(
            openvino.Core().read_model(str(path)), str(path.with_suffix(".xml")), compress_to_fp16=False
        )
        return path.with_suffix(".xml")

    return write


@pytest.fixture(scope="module")
def engine(kind, file):
    return Engine(file(), kind, threads=1)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8, 8), (3, 1, 5, 9, 2)])
def test_it_computes_what_the_network_computes_in_any_size(engine, shape):
    windows = torch.rand(shape)
    given = engine(windows.clone())
    assert given.dtype == torch.float32
    torch.testing.assert_close(given, Classes()(windows), rtol=1e-6, atol=1e-6)
    assert engine.shape == (None, 1, None, None, None)
    assert engine.version.split()[-1][0].isdigit()


def test_windows_of_other_dtypes_and_strides_are_taken(engine):
    windows = torch.rand(2, 1, 6, 4, 5).transpose(2, 4).to(torch.float64)
    torch.testing.assert_close(engine(windows), Classes()(windows.float()), rtol=1e-6, atol=1e-6)


def test_it_stands_in_the_sliding_window_where_the_network_stands(engine):
    image = torch.rand(1, 1, 30, 21, 19)
    inferer = SlidingWindowInferer((8, 8, 8), 0.5, output="labels", precision="auto")
    wanted = SlidingWindowInferer((8, 8, 8), 0.5, output="labels", precision="fp32")(image, Classes())
    assert torch.equal(inferer(image, engine), wanted)
    assert [event.code for event in inferer.events] == ["MS-M213"]
    assert engine.version in inferer.events[0].message


def test_the_mean_of_mirror_images_is_computed_in_fp32_too(engine):
    image = torch.rand(1, 1, 30, 21, 19)
    inferer = SlidingWindowInferer((8, 8, 8), 0.5, mirror_axes=(0, 2), precision="bf16")
    wanted = SlidingWindowInferer((8, 8, 8), 0.5, mirror_axes=(0, 2), precision="fp32")(image, Classes())
    torch.testing.assert_close(inferer(image, engine), wanted, rtol=1e-5, atol=1e-5)
    assert [event.code for event in inferer.events] == ["MS-M213"]


def test_ensembles_and_mirror_images_take_it(engine):
    image = torch.rand(1, 1, 20, 11, 9)
    settings = SlidingWindowInferer((8, 8, 8), 0.5)
    found, wanted = (
        UncertainInferer(settings)(image, Mirrored(Ensemble([network, network]), [Mirror((0,))]))
        for network in (engine, Classes())
    )
    torch.testing.assert_close(found.entropy, wanted.entropy, rtol=1e-4, atol=1e-5)
    assert torch.equal(found.labels, wanted.labels)
    assert found.samples == 4


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_fixed_batch_is_split_and_filled_up(kind, file, batch):
    engine = Engine(file((batch, 1, 4, 4, 4)), kind, threads=1)
    windows = torch.rand(5, 1, 4, 4, 4)
    assert engine.shape == (batch, 1, 4, 4, 4)
    torch.testing.assert_close(engine(windows), Classes()(windows), rtol=1e-6, atol=1e-6)


def test_windows_of_another_size_than_the_fixed_one_are_refused(kind, file):
    engine = Engine(file(("n", 1, 4, 4, 6)), kind, threads=1)
    with pytest.raises(UsageError, match=r"takes windows of 4 x 4 x 6 voxels, these have 4 x 4 x 8") as refused:
        engine(torch.rand(1, 1, 4, 4, 8))
    assert refused.value.code == "MS-U314"


def test_what_the_library_cannot_compute_is_told_with_the_way_out(kind, engine):
    with pytest.raises(BundleError, match="--engine torch") as refused:
        engine(torch.rand(1, 2, 4, 4, 4))  # two channels
    assert refused.value.code == "MS-B126"


def test_a_broken_file_is_refused(kind, tmp_path):
    path = tmp_path / f"model{SUFFIXES[kind]}"
    path.write_bytes(b"no network")
    with pytest.raises(BundleError, match="cannot open it") as refused:
        Engine(path, kind)
    assert refused.value.code == "MS-B126"
    assert refused.value.file == str(path)


@pytest.mark.parametrize(
    "words", ["std::bad_alloc", "Failed to allocate memory for requested buffer of size 8", "out of memory"]
)
def test_running_out_of_memory_is_said_as_torch_says_it(engine, monkeypatch, words):
    def full(array):
        raise RuntimeError(words)

    monkeypatch.setattr(engine, "_program", engines.Program(full, engine.shape, engine.version))
    with pytest.raises(MemoryError):
        engine(torch.rand(1, 1, 4, 4, 4))


def test_an_unknown_engine_is_refused(tmp_path):
    with pytest.raises(UsageError, match="torch, onnx, openvino") as refused:
        Engine(tmp_path / "model.trt", "tensorrt")
    assert refused.value.code == "MS-U311"


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime", "openvino"])
def test_a_missing_package_names_the_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"medseg\[export\]") as refused:
        library(name)
    assert refused.value.code == "MS-U310"
    assert name in refused.value.what


def test_the_engine_inside_a_wrapper_is_found(engine):
    assert engine_of(engine) is engine
    assert engine_of(nn.Sequential(nn.Identity(), engine)) is engine
    assert engine_of(Classes()) is None
    assert engine_of(len) is None


def test_openvino_is_imported_without_its_telemetry(tmp_path):
    """A stand-in for openvino-telemetry ends the program when it is imported: as plain `import openvino` does."""
    (tmp_path / "openvino_telemetry").mkdir()
    (tmp_path / "openvino_telemetry" / "__init__.py").write_text("import os\nos._exit(33)\n", encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def run(code):
        return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)

    assert run("import openvino").returncode == 33
    ours = run("import sys; from medseg.inferers.engine import library; print(library('openvino').__name__)")
    assert (ours.returncode, ours.stdout.strip()) == (0, "openvino"), ours.stderr


def test_ctrl_c_after_two_models_of_openvino_is_an_interrupt(tmp_path):
    """Two `Core`s, let go in the order in which they were made, would end Python here with a segmentation fault."""
    path = write_classes(tmp_path / "model.onnx")
    library("openvino").save_model(library("openvino").Core().read_model(str(path)), str(path.with_suffix(".xml")))
    program = f"""
import gc, signal
from pathlib import Path
from medseg.inferers.engine import Engine
first, second = (Engine(Path({str(path.with_suffix(".xml"))!r}), "openvino", threads=1) for _ in range(2))
del first; gc.collect()
del second; gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "interrupted"), done.stderr
