"""Whether a record has the form that `record.schema.json`, shipped beside this file, describes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jsonschema.protocols import Validator

SCHEMA_FILE = Path(__file__).with_name("record.schema.json")


def require_form(record: Mapping[str, Any], kind: str, path: Path) -> None:
    """Refuse a record of another form, before anything in it is used.

    Args:
        record: as read.
        kind: 'case' or 'run'.
        path: its file, for the message.

    Raises:
        RecordError: MS-V109 naming the entry.
    """
    fault = next(iter(_validator(kind).iter_errors(record)), None)
    if fault is None:
        return
    place = "/".join(str(part) for part in fault.absolute_path) or "the record"
    raise RecordError(
        "MS-V109",
        f"{place[:120]} has not the form that medseg gives it ({fault.validator}: {str(fault.validator_value)[:80]})",
        file=path,
        mend="do not trust this folder: its records are not medseg's, or those of another version of it",
    )


@cache
def _validator(kind: str) -> Validator:
    from jsonschema import Draft202012Validator

    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return Draft202012Validator({"$schema": schema["$schema"], "$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]})
