"""What engines there are, without loading any of them."""

from __future__ import annotations

from medseg.errors import UsageError

#: Engine -> the file that it opens, beside the weights of the same stem.
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
ENGINES = ("torch", *SUFFIXES)


def unknown_engine(name: str) -> UsageError:
    """The refusal of an engine that does not exist."""
    return UsageError("MS-U311", f"there is no engine {name!r}", mend=f"use --engine {', '.join(ENGINES)}")
