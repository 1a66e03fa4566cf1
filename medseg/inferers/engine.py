"""Engines other than torch: an exported network, opened from its file and called as the network is.

    onnx       ONNX Runtime, model.onnx        openvino   Intel's OpenVINO, model.xml and model.bin

An `Engine` stands where a network stands: in the sliding window, in mirror images, in an ensemble. It computes in fp32 on
the CPU, with torch's number of threads unless told otherwise, and has no weights that torch knows of: nothing can be
dropped, copied to another device or computed in bf16.

`import openvino` reports its use to a server where the package openvino-telemetry is installed, as it is by default.
medseg talks to nobody, so the package is hidden while openvino is imported.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from medseg.errors import BundleError, MissingExtraError, UsageError
from medseg.inferers.engine_names import unknown_engine
from medseg.inferers.memory import is_out_of_memory
from medseg.inferers.windows import by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import ModuleType

_EXTRA = 'pip install "medseg[export]"'
_TELEMETRY = "openvino_telemetry"


@dataclass(frozen=True, eq=False)
class Program:
    """An exported network that is ready to run.

    Args:
        run: (N, C, *space) float32 -> (N, K, *space) float32, a new array.
        shape: of what it takes, None along axes that may have any size.
        version: of the engine, in words.
    """

    run: Callable[[np.ndarray], np.ndarray]
    shape: tuple[int | None, ...]
    version: str


class Engine(nn.Module):
    """An exported network, called as the network it was made from.

    Args:
        path: its file; OpenVINO finds the .bin beside the .xml.
        engine: "onnx" or "openvino".
        threads: of the CPU; None: as many as torch has now.

    Attributes:
        engine: its name.
        version: of the library that computes, in words.
        shape: (N, C, *space) of what it takes, None where any size will do.

    Raises:
        UsageError: MS-U311 there is no such engine.
        MissingExtraError: MS-U310 its library is not installed.
        BundleError: MS-B126 its library cannot open the file.
    """

    def __init__(self, path: Path, engine: str, *, threads: int | None = None) -> None:
        super().__init__()
        open_program = _OPEN.get(engine)
        if open_program is None:
            raise unknown_engine(engine)
        self.path, self.engine = path, engine
        self._program = open_program(path, threads or torch.get_num_threads())
        self.version = self._program.version
        self.shape = self._program.shape

    def forward(self, windows: Tensor) -> Tensor:
        """(N, C, *space) on the CPU -> (N, K, *space) float32.

        Raises:
            UsageError: MS-U314 it takes windows of one size, and these have another.
            BundleError: MS-B126 the library fails.
            MemoryError: it says that memory ran out.
        """
        fixed = self.shape[2:]
        if any(n is not None and n != m for n, m in zip(fixed, windows.shape[2:], strict=True)):
            raise UsageError(
                "MS-U314",
                f"{self.path.name} takes windows of {by([n or m for n, m in zip(fixed, windows.shape[2:], strict=True)])}"
                f" voxels, these have {by(windows.shape[2:])}",
                file=self.path,
                mend="predict with --engine torch, or export again after the bundle's roi_size was changed",
            )
        array = np.ascontiguousarray(windows.detach().to("cpu", torch.float32).numpy())
        most = self.shape[0] or len(array)
        parts = [self._run(array[first : first + most]) for first in range(0, len(array), most)]
        return torch.from_numpy(parts[0] if len(parts) == 1 else np.concatenate(parts))

    def _run(self, array: np.ndarray) -> np.ndarray:
        short = (self.shape[0] or len(array)) - len(array)  # a batch of fixed size is filled up
        if short:
            array = np.concatenate([array, np.repeat(array[-1:], short, 0)])
        try:
            result = self._program.run(array)
        except Exception as error:
            if is_out_of_memory(error) or "bad_alloc" in str(error) or "Failed to allocate" in str(error):
                raise MemoryError(_first_line(error)) from error
            raise BundleError(
                "MS-B126",
                f"{self.version} cannot compute windows of {by(array.shape[2:])}: {_first_line(error)}",
                file=self.path,
                mend="predict with --engine torch, or export it again: medseg bundle export BUNDLE",
            ) from error
        return result[: len(result) - short]

    def __deepcopy__(self, memo: object) -> Engine:
        """There is one of it: what it holds cannot be copied, and need not be."""
        del memo
        return self

    def extra_repr(self) -> str:
        """What print(module) shows."""
        return f"{self.version}, {self.path.name}"


def engine_of(network: object) -> Engine | None:
    """The engine that a network is, or that it wraps (as for the mean of mirror images)."""
    modules = network.modules() if isinstance(network, nn.Module) else ()
    return next((module for module in modules if isinstance(module, Engine)), None)


def library(name: str) -> ModuleType:
    """Import one of the libraries of the extra `export`: onnx, onnxscript, onnxruntime or openvino.

    Raises:
        MissingExtraError: MS-U310 it is not installed, or cannot be loaded.
    """
    hide = name == "openvino" and name not in sys.modules and _TELEMETRY not in sys.modules
    if hide:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # makes importing it an ImportError
    try:
        return importlib.import_module(name)
    except ImportError as error:
        why = "is not installed" if getattr(error, "name", "") == name else f"cannot be loaded: {_first_line(error)}"
        raise MissingExtraError("MS-U310", f"the package {name} {why}", mend=_EXTRA) from error
    finally:
        if hide:
            del sys.modules[_TELEMETRY]


def _open_onnx(path: Path, threads: int) -> Program:
    runtime: Any = library("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # torch's threads work in between
    options.log_severity_level = 4  # its errors are raised, and told once
    version = f"ONNX Runtime {runtime.__version__}"
    with _opening(path, version):
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        (taken,), (given,) = session.get_inputs(), session.get_outputs()
        shape = tuple(n if isinstance(n, int) else None for n in taken.shape)

        def run(array: np.ndarray) -> np.ndarray:
            return session.run([given.name], {taken.name: array})[0]

        return Program(run, shape, version)


def _open_openvino(path: Path, threads: int) -> Program:
    openvino: Any = library("openvino")
    version = f"OpenVINO {str(openvino.__version__).split('-')[0]}"
    # Its own choice on CPUs that have bf16 is bf16; labels were compared in fp32. Its own cache stays off.
    settings: Mapping[str, Any] = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    with _opening(path, version):
        compiled = _openvino_core().compile_model(str(path), "CPU", settings)
        (taken,), (_,) = compiled.inputs, compiled.outputs
        shape = tuple(int(n.get_length()) if n.is_static else None for n in taken.partial_shape)
        return Program(lambda array: compiled(array)[0], shape, version)


@cache
def _openvino_core() -> Any:
    """One for the whole process, until it ends.

    OpenVINO 2026.4 gives its CPU part a stack for signal handlers, and takes it away with the last model of a Core. Of two
    that go in the order in which they came, the second one puts a stack back into use that is no more: the next Ctrl-C, or
    the end of a worker process, ends Python with a segmentation fault.
    """
    return library("openvino").Core()


_OPEN: Mapping[str, Callable[[Path, int], Program]] = {"onnx": _open_onnx, "openvino": _open_openvino}


@contextmanager
def _opening(path: Path, version: str) -> Iterator[None]:
    """Say which library could not open which file."""
    try:
        yield
    except Exception as error:
        raise BundleError(
            "MS-B126",
            f"{version} cannot open it: {_first_line(error)}",
            file=path,
            mend="export it again: medseg bundle export BUNDLE",
        ) from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
