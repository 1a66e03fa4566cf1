"""The models that medseg knows, as `medseg bundles --json` lists them."""

from __future__ import annotations

import json
from dataclasses import dataclass

from MedSegLib.errors import MedSegError


@dataclass(frozen=True)
class Bundle:
    """One model.

    Args:
        name: what `-b` takes.
        version: of the model.
        weights: whether it can predict; one without is a recipe for training.
        needs: the images it takes, in words.
        finds: the structures it labels, in words.
        intended_use: in words.
    """

    name: str
    version: str = ""
    weights: bool = True
    needs: str = ""
    finds: str = ""
    intended_use: str = ""

    @property
    def title(self) -> str:
        """Its line in a list."""
        return f"{self.name} {self.version}".strip() + ("" if self.weights else " (no weights: a recipe)")

    @property
    def tip(self) -> str:
        """What to know before choosing it."""
        lines = (f"Needs: {self.needs}" * bool(self.needs), f"Finds: {self.finds}" * bool(self.finds))
        return "\n".join(line for line in (*lines, self.intended_use) if line)


def bundles_command(medseg: list[str]) -> list[str]:
    """The words that list the models."""
    return [*medseg, "bundles", "--json"]


def parse_bundles(text: str) -> list[Bundle]:
    """The models in the output of `medseg bundles --json`, those that can predict first.

    Raises:
        MedSegError: this is not such output.
    """
    try:
        rows = json.loads(text)
        found = [
            Bundle(
                name=str(row["name"]),
                version=str(row.get("version", "")),
                weights=bool(row.get("weights", True)),
                needs=str(row.get("needs", "")),
                finds=str(row.get("finds", "")),
                intended_use=str(row.get("intended_use", "")),
            )
            for row in rows
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = "what medseg printed is no list of bundles"
        raise MedSegError(
            what, "run `medseg bundles --json` in a terminal; another version may be installed"
        ) from error
    return sorted(found, key=lambda bundle: (not bundle.weights, bundle.name))
