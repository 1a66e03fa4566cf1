"""The one error that the module shows to the user."""

from __future__ import annotations


class MedSegError(Exception):
    """Something the user can mend.

    Args:
        what: what was found, in one sentence.
        mend: what to do next.
        code: medseg's own code (MS-D104) where it gave one.
        file: what it is about.
    """

    def __init__(self, what: str, mend: str, *, code: str = "", file: str = "") -> None:
        self.what, self.mend, self.code, self.file = what, mend, code, file
        super().__init__(what, mend, code, file)

    def __str__(self) -> str:
        lines = [f"{self.code}: {self.what}" if self.code else self.what]
        if self.file:
            lines.append(f"in {self.file}")
        return "\n".join([*lines, f"-> {self.mend}"])
