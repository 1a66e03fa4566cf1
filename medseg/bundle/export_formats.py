"""A network as a graph in a file: torch.export, ONNX, OpenVINO.

One `torch.export` of the network serves all three: it is saved as it is, translated to ONNX by torch's own exporter, and
what OpenVINO reads of the ONNX file is saved in OpenVINO's format. MONAI's `onnx_export` (1.6.1) traces instead, keeps the
size of one example and compares random numbers with a tolerance; none of its files says which weights it was made from.

Batch and space stay free where the network lets them. Where it does not (a transformer that learned a position for each
voxel), the export is tried with a window of the bundle's size, then with a single one.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from medseg.errors import BundleError
from medseg.inferers.engine import library
from medseg.inferers.outputs import segmented

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Format -> suffixes of its files, the one to open first.
FORMATS = {"pt2": (".pt2",), "onnx": (".onnx",), "openvino": (".xml", ".bin")}
#: Format -> packages that writing and checking it take.
NEEDS = {"pt2": (), "onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino")}
INPUT, OUTPUT = "image", "logits"


@dataclass(frozen=True, eq=False)
class Graph:
    """An exported network.

    Args:
        program: what torch.export made.
        shape: (N, C, *space) of what it takes, None where any size will do.
    """

    program: ExportedProgram
    shape: tuple[int | None, ...]


class OneTensor(nn.Module):
    """A network that returns what is segmented alone, where it returns a list or a table."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, *space) -> (N, K, *space)."""
        tensor = segmented(self.network(image))
        if tensor is None:
            msg = "the network returns no tensor"
            raise TypeError(msg)
        return tensor


def to_graph(network: nn.Module, patch: Tensor, path: Path) -> Graph:
    """Export a network, as free in size as it lets itself be.

    Args:
        network: in eval mode, on the CPU, in fp32.
        patch: (C, *roi), a window as the bundle's inferer cuts it.
        path: the bundle, for messages.

    Raises:
        BundleError: MS-B124 torch.export cannot follow the network.
    """
    module = OneTensor(network).eval()
    free, said = _free_axes(module, patch), None
    for axes in dict.fromkeys((free, tuple(n for n in free if n == 0), ())):
        example = torch.stack([patch] * (2 if 0 in axes else 1)).contiguous()
        try:
            with torch.no_grad(), quiet():
                program = torch.export.export(module, (example,), dynamic_shapes=(dict.fromkeys(axes, Dim.AUTO),))
                graph = Graph(program, _taken(program))
                for axis in axes:
                    _longer(program.module(), example, axis)
        except Exception as error:  # noqa: BLE001  whatever a foreign network brings, the next try asks for less
            said = said or error
        else:
            return graph
    raise BundleError(
        "MS-B124",
        f"torch.export cannot follow its network ({type(said).__name__}: {_first_line(said)})",
        file=path,
        mend="predict with --engine torch; a network exports when its forward has no branch on what voxels hold",
    ) from said


def write_pt2(graph: Graph, path: Path) -> None:
    """Save for `torch.export.load`, from Python or C++."""
    torch.export.save(graph.program, path)


def write_onnx(graph: Graph, path: Path) -> None:
    """Save as one ONNX file with its weights in it.

    Raises:
        MissingExtraError: MS-U310 a package of the extra is not there.
        BundleError: MS-B124 something in the network has no word in ONNX.
    """
    for name in NEEDS["onnx"][:2]:
        library(name)
    with _told("ONNX", path), torch.no_grad(), quiet():
        made: Any = torch.onnx.export(
            graph.program, input_names=[INPUT], output_names=[OUTPUT], dynamo=True, verbose=False
        )
        made.save(path, external_data=False)


def write_openvino(onnx: Path, path: Path) -> None:
    """Save what OpenVINO reads of an ONNX file as path (.xml) and, beside it, .bin, in fp32.

    Raises:
        MissingExtraError: MS-U310 openvino is not there.
        BundleError: MS-B124 it does not understand the file.
    """
    openvino: Any = library("openvino")
    with _told("OpenVINO", path):  # not convert_model, which reports its use to a server
        openvino.save_model(openvino.Core().read_model(str(onnx)), str(path), compress_to_fp16=False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No word from the exporters while they work: what matters of it becomes an error."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _taken(program: ExportedProgram) -> tuple[int | None, ...]:
    """Shape of the input, None along free axes."""
    (name,) = program.graph_signature.user_inputs
    node = next(node for node in program.graph.nodes if node.name == name)
    return tuple(n if isinstance(n, int) else None for n in node.meta["val"].shape)


def _free_axes(module: nn.Module, patch: Tensor) -> tuple[int, ...]:
    """Axes of (N, C, *space), channels apart, along which the network itself takes twice as much."""
    free = []
    for axis in (0, *range(2, patch.ndim + 1)):
        try:
            with torch.no_grad(), quiet():
                _longer(module, patch[None], axis)
        except Exception:  # noqa: BLE001  it does not: that is the answer
            continue
        free.append(axis)
    return tuple(free)


def _longer(module: nn.Module, windows: Tensor, axis: int) -> None:
    """Run windows beside themselves along an axis; raises where the output is not twice as long."""
    given = module(torch.cat([windows, windows], axis))
    wanted = [2 * n if i == axis else n for i, n in enumerate(windows.shape) if i != 1]
    if [n for i, n in enumerate(given.shape) if i != 1] != wanted:
        msg = f"{tuple(given.shape)} of windows {tuple(windows.shape)} twice along axis {axis}"
        raise ValueError(msg)


@contextlib.contextmanager
def _told(what: str, path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        deepest: BaseException = error
        while deepest.__cause__ is not None:
            deepest = deepest.__cause__
        raise BundleError(
            "MS-B124",
            f"the network has no form in {what} ({type(deepest).__name__}: {_first_line(deepest)})",
            file=path.name,
            mend="export without it (--format pt2), and predict with --engine torch",
        ) from error


def _first_line(error: BaseException | None) -> str:
    return next((line.strip()[:200] for line in str(error).splitlines() if line.strip()), "")
