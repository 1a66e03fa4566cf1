"""`medseg train --mlflow`: a training told to MLflow while it goes on, and one that is resumed in the same run of MLflow.

MONAI's MLFlowHandler (1.6.1) was looked at first. Where MLFLOW_TRACKING_URI is set it sends to that place instead of the
one that was named; it takes whichever run of the experiment is unfinished for its own; a run that had ended begins anew;
it writes every step while the network waits; and it knows no scores of structures. So `medseg.training.Progress`' rows go
through MLflow's own client, by epochs.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ignite.engine import Engine, Events

from medseg.errors import MissingExtraError, OutputError, UsageError
from medseg.reports.training import PAGE, PICTURE, TABLE
from medseg.training.progress import Progress
from medseg.training.ranks import launched
from medseg.writers.atomic import write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow import MlflowClient
    from monai.bundle import ConfigParser

#: In RUN/models: which run of MLflow it is. The place is named anew each time: nothing is sent because a file says so.
FILE = "mlflow.json"
#: Seconds between two sendings.
_EVERY = 10.0
#: Numbers in one message, MLflow's limit.
_MOST = 1000
#: Keys of train.json that tell of this machine or of cases.
_NOT_TOLD = frozenset({"imports", "initialize", "run", "finalize", "validation", "resume", "num_workers", "device"})
_PARTS = ("network_def", "optimizer")


def store_of(place: str) -> str:
    """A URI as MLflow takes it; a folder is one database and the artifacts beside it."""
    if place.startswith("file://"):
        place = url2pathname(urlsplit(place).path)
    return place if "://" in place else f"sqlite:///{(Path(place).resolve() / 'mlflow.db').as_posix()}"


def open_store(place: str) -> MlflowClient:
    """MLflow's client, and that it is answered.

    Args:
        place: a URI, or a folder, which is made.

    Raises:
        MissingExtraError: MS-T169 MLflow is not installed.
        OutputError: MS-T178 the store cannot be reached or written.
    """
    uri = store_of(place)
    needs = ("mlflow",) if uri.startswith("http") else ("mlflow", "sqlalchemy", "alembic")
    missing = [name for name in needs if find_spec(name) is None]
    if missing:
        what = f"--mlflow needs {' and '.join(missing)}, which is not installed"
        raise MissingExtraError("MS-T169", what, mend='type: pip install "medseg[mlflow]"')
    # A server that is gone must not hold a training up: the client's own seven patient tries take minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every table that it makes
    try:
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        what = f"MLflow's store does not answer ({_first(error, place)})"
        file = _without_password(place, place)
        raise OutputError("MS-T178", what, file=file, mend="look at the address, or name a folder") from None
    return client


def require_rows(config: Mapping[str, Any]) -> None:
    """Refuse a recipe that has nothing to tell: UsageError MS-T179."""
    if "medseg.training.Progress" not in json.dumps(config):
        raise UsageError(
            "MS-T179", "this recipe does not say how its training goes, so there is nothing for MLflow",
            mend="name medseg.training.Progress among the handlers of train.json, as the shipped bundles do",
        )  # fmt: skip


@contextmanager
def tracked(place: str | None, out: Path, parser: ConfigParser) -> Iterator[None]:
    """Tell MLflow of the trainer that runs within a `with`; of several processes the first does.

    Args:
        place: see `open_store`; None: nothing is told.
        out: the run; `out/models/mlflow.json` says which of MLflow's runs it is.
        parser: of train.json, overrides included; with `train#trainer` and `train#handlers`.

    Raises:
        As `open_store`.
    """
    if place is None or launched()[0] > 0:
        yield
        return
    handlers = parser.get_parsed_content("train#handlers")
    progress = next(one for one in handlers if isinstance(one, Progress))
    run = _Run(open_store(place), store_of(place), out, progress)
    run.begin(parameters(dict(parser.get() or {})))
    parser.get_parsed_content("train#trainer").add_event_handler(Events.EPOCH_COMPLETED, run.after_epoch)
    try:
        yield
    except KeyboardInterrupt:
        run.end("KILLED")
        raise
    except BaseException:
        run.end("FAILED")
        raise
    run.end("FINISHED")


def parameters(config: Mapping[str, Any]) -> dict[str, str]:
    """What a recipe says in plain values: numbers, words, lists of them; no paths, and no names of cases."""
    found: dict[str, str] = {}
    for key, value in config.items():
        parts = {f"{key}.{name}": one for name, one in value.items()} if key in _PARTS else {key: value}
        for name, one in parts.items():
            told = name in _NOT_TOLD or name.endswith(("_dir", "_root")) or not _is_plain(one)
            if not told:
                found[_allowed(name)] = str(one)[:500]
    return found


class _Run:
    """One run of MLflow.

    Args:
        client: of the store.
        uri: of the store.
        out: the run of medseg.
        progress: has the rows.
    """

    def __init__(self, client: MlflowClient, uri: str, out: Path, progress: Progress) -> None:
        self.client, self.uri, self.out, self.progress = client, uri, out, progress
        self.id = ""
        self._sent = -1
        self._due = 0.0

    def begin(self, told: Mapping[str, str]) -> None:
        """Make the run, or go on in that of `models/mlflow.json`; say the parameters that it does not know."""
        known: Mapping[str, str] = {}
        file = self.out / "models" / FILE
        if file.is_file() and self._go_on(str(json.loads(file.read_text(encoding="utf-8"))["run_id"])):
            known = self.client.get_run(self.id).data.params
        else:
            self.id = self.client.create_run(self._experiment(), run_name=_name(self.out)).info.run_id
            write_json(file, {"run_id": self.id})
        for name, value in told.items():
            if name not in known:
                self.client.log_param(self.id, name, value)
            elif known[name] != value:  # parameters are for ever; a longer budget stands beside
                self.client.set_tag(self.id, f"resumed.{name}", value)

    def after_epoch(self, engine: Engine) -> None:
        """Send what is new, now and then."""
        del engine
        if time.monotonic() >= self._due:
            self._send()
            self._due = time.monotonic() + _EVERY

    def end(self, status: str) -> None:
        """Send the rest, the curves and the table, and how it ended."""
        self._send()
        with self._heard():
            for name in (PAGE, PICTURE, TABLE):
                path = None if self.progress.folder is None else self.progress.folder / name
                if path is not None and path.is_file():
                    self.client.log_artifact(self.id, str(path), "training")
            self.client.set_terminated(self.id, status)

    def _send(self) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for row in [row for row in self.progress.rows if row["step"] > self._sent]:
            plain = ("loss", "rate", "minutes", "epoch")
            named = {
                name if name in plain else f"validation/{_allowed(name)}": row[name] for name in row if name != "step"
            }
            step = int(row["step"])
            told = [Metric(name, value, now, step) for name, value in named.items() if math.isfinite(value)]
            with self._heard():
                for start in range(0, len(told), _MOST):
                    self.client.log_batch(self.id, metrics=told[start : start + _MOST])
                self._sent = step
            if self._sent != step:
                return  # tried again with the next epoch

    def _go_on(self, run: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            self.client.update_run(run, status="RUNNING")
            steps = [metric.step for metric in self.client.get_metric_history(run, "epoch")]
        except MlflowException as error:
            logging.getLogger(__name__).warning(
                "MLflow does not know this run (%s): it gets a new one", _first(error, self.uri)
            )
            return False
        self.id, self._sent = run, max(steps, default=-1)
        return True

    def _experiment(self) -> str:
        """Its id; made where it is not there, of a local database with the artifacts beside it."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "medseg"
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        local = self.uri.startswith("sqlite:///")
        beside = Path(self.uri.removeprefix("sqlite:///")).parent / "artifacts"
        return self.client.create_experiment(name, artifact_location=beside.as_uri() if local else None)

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """A store that fails does not end a training."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, OSError) as error:
            logging.getLogger(__name__).warning(
                "MLflow could not be told (%s); the training goes on", _first(error, self.uri)
            )


def _name(out: Path) -> str:
    """The run's folder; of a fold the one around it too."""
    out = out.resolve()
    return f"{out.parent.name}/{out.name}" if out.name.startswith("fold_") else out.name


def _first(error: Exception, place: str) -> str:
    return (_without_password(str(error), place).splitlines() or [type(error).__name__])[0][:200]


def _without_password(text: str, place: str) -> str:
    """A text without the password that an address holds."""
    with contextlib.suppress(ValueError):
        secret = urlsplit(place).password
        return text.replace(secret, "...") if secret else text
    return text


def _allowed(name: str) -> str:
    """A name with the characters that MLflow takes."""
    return "".join(c if c.isalnum() or c in "_-. :/" else "_" for c in name)[:250]


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, int | float) or (isinstance(value, str) and not value.startswith("$"))
