"""Sixty-four voxels in one word: the processor's own counting of bits, which numba does not offer by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable


def _instruction(build: Callable[[Any, Any], Any]) -> Any:
    """A function of one uint64 for use in kernels, made of what `build(builder, word)` emits."""

    def typed(_typing, _word):
        def emit(_context, builder, _signature, words):
            return build(builder, words[0])

        return types.int64(types.uint64), emit

    return intrinsic(typed)


#: How many bits are set.
ones = _instruction(lambda builder, word: builder.ctpop(word))

#: Place of the lowest bit set; 64 if there is none.
lowest = _instruction(lambda builder, word: builder.cttz(word, ir.Constant(ir.IntType(1), 0)))

#: How many zeros stand above the highest bit set; 64 if there is none.
zeros_above = _instruction(lambda builder, word: builder.ctlz(word, ir.Constant(ir.IntType(1), 0)))
