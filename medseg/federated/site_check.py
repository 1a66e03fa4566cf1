"""What a site looks at before its first round of a job, whatever was looked at when it joined: data may have changed.

By the functions that `medseg train` and `medseg federate stats` use: no image and no subject both trains and validates, and
what is called left lies to the left. Only other sites can tell where sides have no names: that is `medseg federate stats`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.bundle.check_instances import INSTANCES
from medseg.bundle.config import read_config
from medseg.errors import InputError
from medseg.federated.names import side_of
from medseg.federated.stats.fingerprint import fingerprint_of
from medseg.federated.stats.places import sides
from medseg.federated.stats.reference import channels_and_labels
from medseg.federated.stats.survey import survey
from medseg.training.sides import check_sides

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.federated.site_recipe import SiteRecipe


def require_apart(recipe: SiteRecipe) -> None:
    """Refuse cases that train and validate.

    Raises:
        DatasetError: MS-T140 with every case that does.
    """
    train, validation = recipe.training_cases(), recipe.validation_cases()
    if all(isinstance(one, dict) and {"image", "label"} <= set(one) for one in (*train, *validation)):
        check_sides(train, validation, recipe.data)


def require_sides(data: Path, bundle: Path) -> None:
    """Refuse labels whose names say another side than that on which they lie; every case is read once for it.

    Where no name of a structure says a side, nothing is read.

    Args:
        data: this site's cases.
        bundle: that is trained.

    Raises:
        InputError: MS-J155 left and right are exchanged; else as for `survey`.
    """
    outputs = (read_config(bundle, "metadata").get("network_data_format") or {}).get("outputs") or {}
    if (outputs.get("pred") or {}).get("format") == INSTANCES:  # label maps hold numbers of objects, and no structures
        return
    channels, labels = channels_and_labels(bundle)
    if not any(side_of(label.name) for label in labels or ()):
        return
    seen = survey(data, channels, labels=labels)
    wrong = [one for one in sides("this site", fingerprint_of(seen, at_least=1)) if one.verdict == "fail"]
    if wrong:
        raise InputError(wrong[0].code, f"{wrong[0].what}; nothing was trained", file=data, mend=wrong[0].mend)
