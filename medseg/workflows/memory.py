"""A lack of memory, told as such with what to do, whatever was being done with a volume."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from medseg.errors import MemoryLimitError
from medseg.inferers.memory import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def memory_guard(doing: str) -> Iterator[None]:
    """Turn every way in which torch, numpy and Python say that an allocation failed into one error.

    Args:
        doing: what there was not enough memory for: 'segment this volume'.

    Raises:
        MemoryLimitError: MS-M310 there was not enough memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryLimitError(
            "MS-M310",
            f"there was not enough memory to {doing}",
            mend="close other programs, crop the image, or run with --device cpu where there is more memory",
        ) from error
