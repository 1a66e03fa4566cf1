"""A bundle's recipe as rounds need it: opened once, through the gate that `medseg train` uses, on one site's cases.

The schedule spans all rounds. Validation, checkpoints and final weights of the recipe are switched off: here rounds say
when.
"""

from __future__ import annotations

import sys
import warnings
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from medseg.bundle.config import read_config
from medseg.bundle.load import build, open_config, running_trusted
from medseg.bundle.shipped import find_bundle
from medseg.bundle.trust import is_trusted
from medseg.errors import InputError
from medseg.readers.cases.names import case_stem, safe_name
from medseg.training.datalist import named_cases
from medseg.training.options import Asked, overrides_of
from medseg.training.train import has_datalist, named_channels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from medseg.federated.algorithm import Algorithm

#: Handlers of a recipe whose work rounds do, by the last part of their names.
_OFF = frozenset(
    {"ValidationHandler", "Checkpoints", "CheckpointSaver", "CheckpointLoader", "FinalWeights", "BestWeights"}
)


class SiteRecipe:
    """A bundle on one site's cases; nothing is read before the first part is asked for.

    Args:
        bundle: folder or shipped name.
        data: this site's cases, as `medseg train` takes them.
        out: folder of what stays here.
        algorithm: rounds, and steps of a round.
        validation: names of the cases that validate; () as the recipe says.
        held_out: every case validates, none trains.
        overrides: `id -> value` of train.json beside those of this module.
    """

    def __init__(
        self,
        bundle: str | Path,
        data: Path,
        out: Path,
        algorithm: Algorithm,
        *,
        validation: Sequence[str] = (),
        held_out: bool = False,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        self.root = find_bundle(bundle)
        self.data, self.out = Path(data), Path(out)
        self.algorithm = algorithm
        self.held_out = held_out
        self._validation = tuple(validation)
        self._wanted = dict(overrides or {})
        self._stack = ExitStack()
        self._parser: Any = None

    @property
    def epochs(self) -> int:
        """Of the trainer, in a round."""
        return self.algorithm.local_epochs or 1

    @property
    def structures(self) -> list[str]:
        """Names of the bundle's labels."""
        return [str(one["name"]) for one in self._opened().get("labels") or ()]

    @property
    def cases(self) -> int:
        """Training cases of this site, 0 where it is held out."""
        return 0 if self.held_out else len(self.training_cases())

    def training_cases(self) -> list[dict[str, Any]]:
        """MONAI's data list of the training cases, each once: a recipe may show a small set several times in an epoch."""
        return list({str(one["image"]): one for one in self.build("train#dataset#data")}.values())

    def validation_cases(self) -> list[dict[str, Any]]:
        """MONAI's data list of the validation cases."""
        return list(self.build("validate#dataset#data") or ())

    def named(self, cases: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
        """Name -> case, of a data list's: as `datalist` calls it, or where the recipe has a list of its own, its label map."""
        config = read_config(self.root, "train")
        known = named_cases(str(self.data), named_channels(config)) if has_datalist(config) else {}
        names = {str(one["label"]): name for name, one in known.items()}
        return {names.get(str(one["label"])) or safe_name(case_stem(Path(str(one["label"])))): one for one in cases}

    def build(self, key: str) -> Any:
        """A part of train.json, the same object each time; None where the recipe has none.

        Raises:
            InputError: MS-T103 the data are not there.
            BundleError: what the gate refuses.
        """
        parser = self._opened()
        with quiet():
            return build(parser, (key,), self.root)

    def close(self) -> None:
        """Give back what a trusted bundle's scripts took."""
        self._stack.close()

    def _opened(self) -> Any:
        if self._parser is not None:
            return self._parser
        if not self.data.exists():
            raise InputError(
                "MS-T103", "no such folder", file=self.data, mend="give a folder with imagesTr and labelsTr"
            )
        config = read_config(self.root, "train")
        trusted = is_trusted(self.root)
        self._stack.enter_context(running_trusted(self.root, trusted))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        metadata = read_config(self.root, "metadata")
        overrides = self._overrides(config)
        self._parser = open_config(self.root, config, metadata, device=device, trusted=trusted, overrides=overrides)
        if "initialize" in self._parser:
            with quiet():
                self._parser.get_parsed_content("initialize")
        return self._parser

    def _overrides(self, config: dict[str, Any]) -> dict[str, Any]:
        validation = self._validation
        if self.held_out:
            validation = tuple(named_cases(str(self.data), named_channels(config)))
        epochs = self.algorithm.rounds * self.epochs
        asked = Asked(self.data, self.out, epochs=epochs, validation=tuple(validation) or None, bundle=self.root)
        found = overrides_of(config, asked) | self._wanted | {"train#trainer#max_epochs": epochs}
        if self.algorithm.local_steps is not None:
            found["train#trainer#epoch_length"] = self.algorithm.local_steps
        for number, handler in enumerate((config.get("train") or {}).get("handlers") or ()):
            if isinstance(handler, dict) and str(handler.get("_target_")).rsplit(".", 1)[-1] in _OFF:
                found[f"train#handlers#{number}#_disabled_"] = True
        return found


@contextmanager
def quiet() -> Iterator[None]:
    """MONAI's own deprecations say nothing to a site; its handlers' lines go where medseg's messages go, to stderr."""
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield
