"""Whether NVFLARE is here, said before anything else is done."""

from __future__ import annotations

from importlib.util import find_spec

from medseg.errors import MissingExtraError


def require_nvflare() -> None:
    """Refuse where the extra is not installed.

    Raises:
        MissingExtraError: MS-J053.
    """
    if find_spec("nvflare") is None:
        raise MissingExtraError(
            "MS-J053", "joint training needs NVFLARE, which is not installed", mend="pip install 'medseg[federated]'"
        )
