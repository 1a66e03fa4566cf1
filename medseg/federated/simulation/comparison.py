"""What a training together is measured against: all cases in one place, and every site alone, with the same work.

All cases in one place get the steps that all sites took together; a site alone gets those that it took itself. So the
work is the same in all three. The schedule of each spans all of its steps.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from medseg.federated.exchange import travelling
from medseg.federated.local_training import LocalTraining
from medseg.federated.results import write_result
from medseg.federated.server_table import key_metric
from medseg.federated.simulation.sites import link_cases
from medseg.federated.site_recipe import SiteRecipe
from medseg.training.checkpoint_file import checkpoints, latest_sound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from medseg.federated.algorithm import Algorithm
    from medseg.federated.initial import Initial
    from medseg.federated.simulation.site_table import SiteTable
    from medseg.federated.simulation.sites import Site


def references(
    root: Path,
    how: Algorithm,
    sites: Sequence[Site],
    folders: Mapping[str, Path],
    out: Path,
    table: SiteTable,
    initial: Initial,
    overrides: Mapping[str, Any],
    *,
    steps: Mapping[str, int],
    tell: Callable[[str], object],
) -> SiteTable:
    """Train the references and score them at every site; what is done already is not done again.

    Args:
        root: the bundle.
        how: of the federation; the references exchange nothing, but save after as many steps.
        sites: all of them.
        folders: name -> data of each.
        out: OUT/compare gets their bundles, OUT/work their checkpoints.
        table: of the federation.
        initial: the weights that all begin with.
        overrides: of train.json.
        steps: site -> steps of the optimiser that it took.
        tell: hears a line a reference.

    Returns:
        The table with a column for each.
    """
    alone = replace(how, name="alone", local_epochs=None, local_steps=1, mu=0.0, control_variates=False, personal=())
    training = [site for site in sites if not site.held_out]
    jobs = {f"alone-{site.name}": (folders[site.name], site.validation) for site in training}
    if len(training) > 1:
        jobs["central"] = _together(root, alone, training, folders, out, overrides)
    work = {f"alone-{site}": taken for site, taken in steps.items()} | {"central": sum(steps.values())}
    for name, (data, validation) in jobs.items():
        each = replace(alone, local_steps=max(1, -(-work.get(name, 0) // how.rounds)))
        recipe = SiteRecipe(
            root, data, out / "work" / "compare" / name, each, validation=validation, overrides=overrides
        )
        local = LocalTraining(recipe, resume=True)
        state = _trained(local, each, initial.state)
        write_result(root, state, out / "compare" / name, recipe.training_cases())
        local.close()
        scores = {site.name: _score(root, alone, site, folders, out, state, overrides) for site in sites}
        table = table.with_model(name.replace("-", " ", 1), scores)
        tell(f"{name}: {work.get(name, 0)} steps, done")
    return table


def _trained(local: LocalTraining, how: Algorithm, start: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All rounds of a model that exchanges with nobody, from its last checkpoint on."""
    state, first = dict(start), 0
    if checkpoints(local.recipe.out / "models"):
        _, kept = latest_sound(local.recipe.out / "models")
        state = dict(kept["parts"]["model"])
        first = int(kept["iteration"]) // int(how.local_steps or 1)
    for number in range(first, how.rounds):
        trained = local.round(travelling(state), number)
        if trained is not None:
            state = trained.state
    return state


def _together(
    root: Path,
    how: Algorithm,
    sites: Sequence[Site],
    folders: Mapping[str, Path],
    out: Path,
    overrides: Mapping[str, Any],
) -> tuple[Path, tuple[str, ...]]:
    """All sites' cases in one folder, and the names of those that validate at their site."""
    everything: dict[str, Mapping[str, Any]] = {}
    held: list[str] = []
    for site in sites:
        recipe = SiteRecipe(
            root, folders[site.name], out / "work" / site.name, how, validation=site.validation, overrides=overrides
        )
        train, validation = (
            {f"{site.name}-{name}": one for name, one in recipe.named(cases).items()}
            for cases in (recipe.training_cases(), recipe.validation_cases())
        )
        recipe.close()
        everything |= train | validation
        held += validation
    return link_cases(everything, out / "work" / "data" / "central"), tuple(held)


def _score(
    root: Path, how: Algorithm, site: Site, folders: Mapping[str, Path], out: Path, state: Mapping[str, Tensor],
    overrides: Mapping[str, Any],
) -> float:  # fmt: skip
    recipe = SiteRecipe(
        root, folders[site.name], out / "work" / "compare" / "scores" / site.name, how, validation=site.validation,
        held_out=site.held_out, overrides=overrides,
    )  # fmt: skip
    local = LocalTraining(recipe, trains=False)
    scores = local.validate(travelling(state))
    local.close()
    metric = key_metric([{"sites": {site.name: {"metrics": scores}}}])
    return scores.get(metric or "", float("nan"))
