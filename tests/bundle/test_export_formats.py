"""Networks as graphs: free in size where the network is, fixed where it is not, refused where it has no graph."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from medseg.bundle.export_formats import to_graph, write_onnx, write_openvino, write_pt2
from medseg.errors import BundleError
from medseg.inferers.engine import Engine

PATCH = torch.rand(1, 8, 8, 8)


class Placed(nn.Module):
    """Knows a number for each voxel of one window, as transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.rand(1, 1, 8, 8, 8))

    def forward(self, x):
        return torch.cat([x, x + self.position], 1)


class Branching(nn.Module):
    def forward(self, x):
        return x + 1 if bool(x.mean() > 0.5) else x - 1


class Several(nn.Module):
    """Deep supervision that is on in eval mode too."""

    def forward(self, x):
        return {"coarse": x[:, :, ::2], "pred": [torch.cat([x, -x], 1), x]}


class Odd(nn.Module):
    """Has no word in ONNX."""

    def forward(self, x):
        return torch.special.bessel_j0(x)


def test_a_u_net_takes_any_batch_and_any_size(tmp_path):
    torch.manual_seed(0)
    network = UNet(3, 1, 3, [4, 8], [2], norm="instance", dropout=0.1).eval()
    graph = to_graph(network, PATCH, tmp_path)
    assert graph.shape == (None, 1, None, None, None)
    write_pt2(graph, tmp_path / "model.pt2")
    code = (
        "import sys, torch; module = torch.export.load(sys.argv[1]).module(); "
        "x = torch.linspace(-1, 1, 3 * 12 * 8 * 16).reshape(3, 1, 12, 8, 16); "
        "print('medseg' in sys.modules, 'monai' in sys.modules, float(module(x).double().sum()))"
    )  # where neither medseg nor MONAI is known
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "model.pt2"], capture_output=True, text=True, check=True
    )
    ours, monai, total = run.stdout.split()
    assert (ours, monai) == ("False", "False")
    with torch.no_grad():
        wanted = network(torch.linspace(-1, 1, 3 * 12 * 8 * 16).reshape(3, 1, 12, 8, 16)).double().sum()
    assert float(total) == pytest.approx(float(wanted), abs=1e-3)


def test_what_knows_one_size_alone_keeps_its_batch_free(tmp_path):
    assert to_graph(Placed().eval(), PATCH, tmp_path).shape == (None, 1, 8, 8, 8)


def test_of_several_outputs_the_segmented_one_is_exported(tmp_path):
    graph = to_graph(Several().eval(), PATCH, tmp_path)
    given = graph.program.module()(PATCH[None])
    assert torch.equal(given, torch.cat([PATCH[None], -PATCH[None]], 1))


def test_a_network_that_branches_on_voxels_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"torch.export cannot follow") as refused:
        to_graph(Branching().eval(), PATCH, tmp_path)
    assert refused.value.code == "MS-B124"
    assert "--engine torch" in refused.value.mend


@pytest.mark.skipif(find_spec("onnxscript") is None, reason="onnxscript absent (install medseg[export])")
def test_a_layer_without_a_word_in_onnx_is_refused(tmp_path):
    graph = to_graph(Odd().eval(), PATCH, tmp_path)
    with pytest.raises(BundleError, match="no form in ONNX") as refused:
        write_onnx(graph, tmp_path / "model.onnx")
    assert refused.value.code == "MS-B124"
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino absent (install medseg[export])")
def test_openvino_says_what_it_does_not_understand(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(BundleError, match="no form in OpenVINO") as refused:
        write_openvino(tmp_path / "model.onnx", tmp_path / "model.xml")
    assert refused.value.code == "MS-B124"


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="onnxruntime absent (install medseg[export])")
def test_a_fixed_size_reaches_the_engine(tmp_path):
    network = Placed().eval()
    write_onnx(to_graph(network, PATCH, tmp_path), tmp_path / "model.onnx")
    engine = Engine(tmp_path / "model.onnx", "onnx", threads=1)
    assert engine.shape == (None, 1, 8, 8, 8)
    windows = torch.rand(3, 1, 8, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(engine(windows), network(windows))
