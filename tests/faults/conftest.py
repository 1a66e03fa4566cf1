"""What was counted, for the table at the end of a run of tests (`pytest_terminal_summary` in tests/conftest.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def count(request) -> Callable[..., None]:
    """`count("kills", 100, 100, "left whole files only")`: what, how many as they should be, of how many, and a note."""

    def add(what: str, good: int, of: int, note: str) -> None:
        request.node.user_properties.append(("count", [what, good, of, note]))

    return add
