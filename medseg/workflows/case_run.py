"""One case: a volume through the domain guard and the network, measured and recorded (stage.py makes its files)."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from medseg.bundle.domain import MARGINS, Violation, check_domain, check_result
from medseg.errors import DomainError
from medseg.workflows import record as records
from medseg.workflows.doubt import flags
from medseg.workflows.engine import describe_engine
from medseg.workflows.identity.teller import plain
from medseg.workflows.measure import MARKS, Measurement, measure
from medseg.workflows.sampling import calibration
from medseg.workflows.segment import segment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from medseg.bundle.load import Bundle
    from medseg.volume import Volume
    from medseg.workflows.identity.teller import Teller
    from medseg.workflows.instances import Placed
    from medseg.workflows.settings import Settings
    from medseg.workflows.uncertainty import Uncertain

UNDECLARED = "domain not declared: nothing says whether this scan is like the training data"


@dataclass(frozen=True, eq=False)
class CaseResult:
    """A segmented case, not yet on disk.

    Args:
        name: the case.
        image: as read.
        segmentation: (I, J, K) label map on the image's own grid, with its label table.
        measurements: of every structure.
        record: what record.json will hold, the hashes of the outputs apart.
        settings: of the run.
        uncertain: what several samples say, where asked for.
        outside_domain: what lies outside the training data.
        notes: what the user should look at.
        mark: one of `measure.MARKS`; stands in every output.
        instances: where the bundle finds instances.
        teller: how its files, and words about it, are told.
    """

    name: str
    image: Volume
    segmentation: Volume
    measurements: tuple[Measurement, ...]
    record: Mapping[str, Any]
    settings: Settings
    uncertain: Uncertain | None = None
    outside_domain: tuple[Violation, ...] = ()
    notes: tuple[str, ...] = ()
    mark: str = MARKS[0]
    instances: Placed | None = None
    teller: Teller | None = None


def guard(volume: Volume, bundle: Bundle, *, file: Path | None, allowed: bool) -> tuple[Violation, ...]:
    """How a volume lies outside what the bundle was trained on.

    Raises:
        DomainError: it does, and that is not `allowed`; with the code of the first violation and all in words.
    """
    found = () if bundle.domain is None else tuple(check_domain(volume, bundle.domain))
    if found and not allowed:
        words = "; ".join(violation.message for violation in found)
        raise DomainError(
            found[0].code, f"not what {bundle.name} was trained on: {words}", file=file, mend=found[0].mend
        )
    return found


def run_case(
    name: str,
    volume: Volume,
    bundle: Bundle,
    settings: Settings,
    *,
    roots: tuple[Path, ...] = (),
    read_seconds: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
    teller: Teller | None = None,
) -> CaseResult:
    """Check, segment, measure and describe one volume.

    Args:
        name: of the case.
        volume: as read, (I, J, K) or (C, I, J, K).
        bundle: its network on `settings.device`.
        settings: see `Settings`.
        roots: the files or folders that the volume was read from.
        read_seconds: how long reading took.
        progress: called with (windows done, windows in all).
        teller: how its files, and words about it, are told; None: by the names of the files.

    Raises:
        DomainError: the volume lies outside what the bundle was trained on, and `outside_domain` is off.
        BundleError, MemoryLimitError: see `segment`.
    """
    start = time.perf_counter()
    teller = teller or plain(roots)
    volume = teller.volume(volume)
    outside = guard(volume, bundle, file=roots[0] if roots else None, allowed=settings.outside_domain)
    made = segment(volume, bundle, device=settings.device, method=settings.method, progress=progress)
    domain = bundle.domain
    widened = {n: (a / MARGINS.volume, b * MARGINS.volume) for n, (a, b) in domain.volume_ml.items()} if domain else {}
    doubt = {} if made.uncertainty is None else made.uncertainty.doubt
    if made.instances is None:
        lowest = None if settings.method is None else calibration(settings.method, bundle).agreement
        flagged = flags(made.labels, bundle.labels, doubt, bundle.uncertainty.flags, lowest)
        measurements = measure(made.labels, bundle.labels, range_ml=widened, doubt=doubt, flagged=flagged)
    else:
        measurements = made.instances.counted(measure(made.labels, bundle.labels, range_ml=widened, doubt=doubt))
    unlike = check_result({m.structure: m.volume_ml for m in measurements}, domain) if domain else []
    mark = MARKS[2] if domain is None else MARKS[bool(outside)]
    notes = (
        *([UNDECLARED] if domain is None else ()),
        *(decision.message for decision in volume.source.decisions if decision.warning),
        *(event.message for event in made.events if event.code.startswith("MS-M20")),  # out-of-memory fallbacks
        *(f"clean-up removed {ml:.3g} mL of {what}" for what, ml in made.cleaned_ml.items() if ml > 0),
        *(f"clean-up filled {ml:.3g} mL of holes in {what}" for what, ml in made.filled_ml.items() if ml > 0),
        *(violation.message for violation in unlike),
        *([] if made.instances is None else made.instances.notes),
    )
    record = {
        "schema": records.SCHEMA,
        "notice": records.RESEARCH,
        "case": name,
        "status": "done",
        "created": records.now(),
        "versions": records.versions(),
        "bundle": records.describe_bundle(bundle),
        "input": records.describe_input(volume, roots, teller),
        "parameters": {
            "threads": settings.threads,
            "deterministic": settings.deterministic,
            "produced": settings.produced,
            "outside_domain_allowed": settings.outside_domain,
            "read": teller.read_options(settings.options),
        },
        "inference": {
            **records.describe_machine(settings.device),
            **describe_engine(bundle.network),
            **records.describe_inferer(bundle.inferer),
            "network_shape": list(made.network_shape),
            "events": [asdict(event) for event in made.events],
        },
        "outside_domain": [asdict(violation) for violation in outside],
        "domain_declared": domain is not None,
        **({} if made.instances is None else {"instances": len(made.instances.rows)}),
        "uncertainty": _described(made.uncertainty, instances=made.instances is not None),
        "cleaned_ml": dict(made.cleaned_ml),
        "filled_ml": dict(made.filled_ml),
        "measurements": [m.row(outside_domain=mark) for m in measurements],
        "warnings": list(notes),
        "seconds": {"read": read_seconds, **made.seconds, "total": read_seconds + time.perf_counter() - start},
        "peak_memory_mb": records.peak_memory_mb(),
    }
    return CaseResult(
        name,
        volume,
        made.labels,
        measurements,
        record,
        settings,
        made.uncertainty,
        outside,
        notes,
        mark,
        made.instances,
        teller,
    )


def _described(found: Uncertain | None, *, instances: bool) -> dict[str, Any] | None:
    if found is None:
        return None
    if instances:
        return {
            "method": found.method.name,
            "samples": found.samples,
            "seed": found.method.seed if found.method.name == "mc" else None,
            "maps": "entropy of whether a voxel belongs to an instance, / ln 2, in [0, 1]",
            "mutual_information": "not defined for instances: objects that a sample did not find have no probability",
        }
    return {
        "method": found.method.name,
        "samples": found.samples,
        "seed": found.method.seed if found.method.name == "mc" else None,
        "temperature": found.temperature,
        "maps": "normalised: divided by ln C, in [0, 1]",
    }
