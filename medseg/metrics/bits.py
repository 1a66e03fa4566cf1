"""Sixty-four voxels in one word: the processor's own counting of bits, which numba does not offer by name."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def ones(typing, word):
    """How many bits of a uint64 are set."""

    def build(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.int64(types.uint64), build


@intrinsic
def lowest(typing, word):
    """Place of the lowest bit set in a uint64; 64 if there is none."""

    def build(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), build


@intrinsic
def zeros_above(typing, word):
    """How many zeros stand above the highest bit set in a uint64; 64 if there is none."""

    def build(context, builder, signature, args):
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), build
