"""What labels need on their way through train.json and inference.json: numbers without gaps, ignored voxels, annotators.

Values of files become 1, 2, 3 ... on the network's grid and go back in the prediction; ignored voxels are taken out before
anything is compared; annotators' maps go through whatever the label map goes through, and become shares at the very end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.training.plan.choice import Choice, many
from medseg.training.plan.template import step
from medseg.transforms.mirror import mirror_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.training.plan.classes import Classes
    from medseg.training.plan.look import Facts

#: Key of the annotators' label maps.
ANNOTATORS = "annotators"


def write_labels(configs: dict[str, dict[str, Any]], classes: Classes, *, soft: bool = False) -> None:
    """Write it into the configs of a bundle, in place, after everything else.

    Args:
        configs: by name.
        classes: what the network says.
        soft: annotators' shares are learnt, of a list that names their label maps.
    """
    train = configs["train"]["train"]
    if soft:
        _write_annotators(train, classes)
    if classes.gaps:
        _write_numbers(configs, classes, soft=soft)
    if classes.ignored is not None:
        unknown = {"_target_": "medseg.transforms.IgnoreVoxelsd", "keys": "label", "ignore": classes.ignored}
        unknown |= {"sigmoid": True} if classes.regions else {}
        configs["train"]["validate"]["postprocessing"]["transforms"].insert(0, unknown)


def ignored_choice(facts: Sequence[Facts], classes: Classes) -> tuple[Choice, ...]:
    """What is ignored, and how much; () where nothing is."""
    if classes.ignore is None:
        return ()
    shares = [one.ignored for one in facts if one.ignored > 0]
    why = "dataset.json says so; loss, patches, forms, grey values of tissue and validation leave these voxels out"
    held = f"{many(len(shares), 'case')} of {len(facts)}"
    of = f", up to {100 * max(shares):.2g} % of a scan" if shares else ""
    return (Choice("ignored", f"label {classes.ignore}, in {held}{of}", why),)


def _write_annotators(train: dict[str, Any], classes: Classes) -> None:
    train["dataset"]["data"][ANNOTATORS] = True
    steps = [*train["deterministic_transforms"], *train["random_transforms"]]
    ending = step(train["random_transforms"], "EnsureTyped")
    for one in steps:
        keys = one.get("keys")
        if one is not ending and isinstance(keys, list) and {"image", "label"} <= set(keys):
            one |= {"keys": [*keys, ANNOTATORS], "allow_missing_keys": True}
            if one.get("label_keys") == "label":
                one["label_keys"] = ["label", ANNOTATORS]
    made: dict[str, Any] = {"_target_": "medseg.transforms.SharesFromAnnotatorsd", "classes": classes.outputs}
    made |= {"regions": [list(parts) for parts in classes.regions]} if classes.regions else {}
    made |= {} if classes.ignored is None else {"ignore": classes.ignored}
    place = train["random_transforms"].index(ending)
    train["random_transforms"].insert(place, made)


def _write_numbers(configs: dict[str, dict[str, Any]], classes: Classes, *, soft: bool) -> None:
    moves = classes.renumbering()
    there: dict[str, Any] = {"_target_": "MapLabelValued", "keys": ["label", ANNOTATORS] if soft else "label"}
    there |= {"orig_labels": list(moves), "target_labels": list(moves.values())}
    there |= {"allow_missing_keys": True} if soft else {}
    steps = configs["train"]["train"]["deterministic_transforms"]
    steps.insert(steps.index(step(steps, "ToNetworkGridd")) + 1, there)
    back = {a: b for a, b in zip(classes.inside, classes.values, strict=True) if a != b}
    ending = configs["inference"]["postprocessing"]["transforms"]
    ending.insert(
        ending.index(step(ending, "RestoreGridd")) + 1,
        {
            "_target_": "MapLabelValued",
            "keys": "pred",
            "orig_labels": list(back),
            "target_labels": list(back.values()),
            "dtype": "$torch.uint8",
        },
    )
    for one in configs["train"]["train"]["random_transforms"]:
        if one["_target_"] == "medseg.transforms.RandMirrord" and one.get("labels") == "@labels":
            one["labels"] = [[moves.get(a, a), moves.get(b, b)] for a, b in mirror_pairs(classes.table)]
