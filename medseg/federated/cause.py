"""medseg's own refusal behind an error."""

from __future__ import annotations

from medseg.errors import MedsegError


def cause_of(error: BaseException) -> MedsegError | None:
    """The MedsegError that an error is, or was raised from: MONAI wraps what a transform or a component raises."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, MedsegError):
        cause = cause.__cause__
    return cause
