"""`medseg federate simulate BUNDLE --sites SITES.yaml -o OUT`: train together on one machine."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from medseg.cli.console import show_json, show_lines, show_table, stderr
from medseg.cli.options import Json
from medseg.errors import UsageError


def simulate(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="A shipped name or a bundle's folder.", show_default=False)
    ],
    sites: Annotated[
        Path, typer.Option("--sites", metavar="SITES.yaml", help="Names and data of the sites.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="Folder of results.", show_default=False)],
    algorithm: Annotated[
        str, typer.Option(metavar="NAME", help="fedavg, fedprox, fedopt, scaffold, or a YAML file.")
    ] = "fedavg",
    rounds: Annotated[int | None, typer.Option(help="Exchanges.", show_default="as the algorithm")] = None,
    local_steps: Annotated[
        int | None,
        typer.Option("--local-steps", help="Steps of a round at every site.", show_default="the algorithm's"),
    ] = None,
    local_epochs: Annotated[
        int | None, typer.Option("--local-epochs", help="Epochs of a round at every site.", show_default="1")
    ] = None,
    mu: Annotated[float | None, typer.Option(help="Of FedProx.", show_default="the algorithm's")] = None,
    quorum: Annotated[int | None, typer.Option(help="Sites without which a round fails.", show_default="2")] = None,
    init: Annotated[
        str | None, typer.Option(metavar="BUNDLE", help="Start from this bundle's weights, as far as they fit.")
    ] = None,
    privacy: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="clip_noise, fp16, top_k, he or a YAML file: what updates go through."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A plain value of train.json, such as learning_rate=0.001."),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Train each site alone and all cases in one place too, with as much work.")
    ] = False,
    look: Annotated[
        bool, typer.Option("--look/--no-look", help="Compare the sites' data first; stop where sides are exchanged.")
    ] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what is in OUT.")] = False,
    json: Json = False,
) -> None:
    """Train a bundle at simulated sites, each a process with a folder of its own.

    OUT/global is the model of all sites, OUT/sites/NAME that of one: bundles for medseg predict -b. The table shows how
    good each model is at each site.
    """
    from medseg.federated.installed import require_nvflare

    require_nvflare()
    from medseg.federated.algorithm import load_algorithm
    from medseg.federated.simulation.simulate import simulate as run

    how = load_algorithm(
        algorithm, rounds=rounds, local_steps=local_steps, local_epochs=local_epochs, mu=mu, quorum=quorum
    )
    try:
        with stderr().status(f"{how.name}, {how.rounds} rounds: the sites start"):
            found = run(
                bundle, sites, how, out, overrides=_changes(changes or []), init=init, privacy=privacy, compare=compare,
                look=look, resume=resume, tell=lambda line: show_lines([line]),
            )  # fmt: skip
    except KeyboardInterrupt:
        show_lines([f"stopped: go on with the same command and --resume; what is done lies in {out}"])
        raise
    table = found.table
    rows = [[_cell(row[name]) for name in table.columns] for row in table.rows]
    show_table(table.columns, rows, title=f"{table.metric} on every site's own validation cases")
    show_lines([f"trained: use it with medseg predict -b {found.model}"])
    if json:
        plain = [{name: None if value != value else value for name, value in row.items()} for row in table.rows]
        show_json({"model": str(found.model), "metric": table.metric, "table": plain})


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4f}"
    return str(value)


def _changes(words: list[str]) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            equals = ""
            value = None
        if not equals or not key:
            raise UsageError("MS-J015", f"--set {word} is no KEY=VALUE", mend="type it like --set learning_rate=0.001")
        found[key] = value
    return found
