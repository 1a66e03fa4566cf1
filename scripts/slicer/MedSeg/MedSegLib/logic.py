"""The module's work in order: find medseg, hand it a volume, watch it, load what it made.

Nothing here waits and nothing here knows Qt. A timer of the widget (or a loop in a script) calls `poll`:

    logic = MedSegLogic(slicer.mrmlScene)
    job = logic.segment(volume, Options(bundle="ct_liver", uncertainty="mc:16"))
    while job.poll():
        ...                       # job.progress.fraction, job.progress.text; job.cancel()
    job.loaded or job.error
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from MedSegLib.bundles import Bundle, bundles_command, parse_bundles
from MedSegLib.command import Options, predict_command
from MedSegLib.environment import clean_environment
from MedSegLib.errors import MedSegError
from MedSegLib.executable import find_medseg
from MedSegLib.load import Loaded, detach, load_result
from MedSegLib.nifti_header import read_nifti_header
from MedSegLib.outcome import explain, read_outcome
from MedSegLib.process import GRACE_S, Process
from MedSegLib.progress import Progress, advance
from MedSegLib.source import Source, prepare, safe_name, same_place
from MedSegLib.views import jump, most_uncertain, show_layers

if TYPE_CHECKING:
    from collections.abc import Mapping

CANCELLED = "cancelled: nothing was loaded"


class MedSegLogic:
    """Starts jobs.

    Args:
        scene: the vtkMRMLScene.
        setting: which medseg, see `find_medseg`.
        startup: what `slicer.util.startupEnvironment()` gave; None outside the application.
        grace_s: see `process.GRACE_S`.
    """

    def __init__(
        self, scene: Any, setting: str = "", startup: Mapping[str, str] | None = None, *, grace_s: float = GRACE_S
    ) -> None:
        self.scene, self.setting, self.startup, self.grace_s = scene, setting, startup, grace_s

    def environment(self) -> dict[str, str]:
        """The variables that medseg runs with."""
        return clean_environment(os.environ, self.startup)

    def list_bundles(self) -> BundlesJob:
        """Ask medseg for its bundles. Raises MedSegError where there is no medseg."""
        environ = self.environment()
        return BundlesJob(Process(bundles_command(self._medseg(environ)), environ, grace_s=self.grace_s))

    def segment(self, volume: Any, options: Options, keep: Path | None = None) -> SegmentJob:
        """Begin to segment a volume.

        Args:
            volume: a vtkMRMLScalarVolumeNode of the scene.
            options: what the user chose.
            keep: folder in which a new folder of this run is to stay; None for a temporary one.

        Raises:
            MedSegError: there is no medseg, the volume cannot be handed to it, or the folder cannot be made.
        """
        environ = self.environment()
        medseg = self._medseg(environ)
        try:
            work = Path(tempfile.mkdtemp(prefix="medseg-"))
        except OSError as error:
            what = f"a temporary folder cannot be made: {error.strerror or error}"
            raise MedSegError(what, "look whether the disk is full") from error
        try:
            source = prepare(volume, work)
            out = work / "out" if keep is None else new_folder(keep, f"{safe_name(volume)}_{Path(options.bundle).name}")
            try:
                command = predict_command(medseg, source.path, out, options)
                process = Process(command, environ, grace_s=self.grace_s)
            except MedSegError:
                if keep is not None:
                    out.rmdir()
                raise
        except OSError as error:
            shutil.rmtree(work, ignore_errors=True)
            what = f"the volume cannot be handed to medseg: {error.strerror or error}"
            raise MedSegError(what, "look whether the disk is full", file=str(error.filename or "")) from error
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        return SegmentJob(self.scene, volume, source, process, command, out, work, kept=keep is not None)

    def _medseg(self, environ: Mapping[str, str]) -> list[str]:
        # $MEDSEG_EXECUTABLE may have been set for this Slicer alone
        return find_medseg(self.setting, {**environ, "MEDSEG_EXECUTABLE": os.environ.get("MEDSEG_EXECUTABLE", "")})


class BundlesJob:
    """`medseg bundles` at work; once `poll` gives False there are `bundles`, or an `error`."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.bundles: list[Bundle] = []
        self.error: MedSegError | None = None

    def poll(self) -> bool:
        """Whether it still runs."""
        if self.process.returncode is not None:
            return False
        self.process.poll()
        code = self.process.returncode
        if code is None:
            return True
        try:
            if code:
                raise explain(code, self.process.lines)
            self.bundles = parse_bundles(self.process.stdout)
        except MedSegError as error:
            self.error = error
        return False

    def kill(self) -> None:
        """End it now."""
        self.process.kill()


class SegmentJob:
    """`medseg predict` at work, and its result in the scene.

    Once `poll` gives False: `loaded` are the nodes, or `error` says why there are none, or it was `cancelled`.
    """

    def __init__(
        self,
        scene: Any,
        volume: Any,
        source: Source,
        process: Process,
        command: list[str],
        out: Path,
        work: Path,
        *,
        kept: bool,
    ) -> None:
        self.source, self.process, self.command, self.out, self.kept = source, process, command, out, kept
        self.progress = Progress()
        self.loaded: Loaded | None = None
        self.error: MedSegError | None = None
        self.notes: list[str] = []
        self.peak: tuple[float, float, float] | None = None
        self.over = False
        self._scene, self._work = scene, work
        self._volume_id, self._name = volume.GetID(), volume.GetName() or "volume"

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked it to stop."""
        return self.process.cancelled

    @property
    def command_line(self) -> str:
        """What was run, to be copied into a terminal."""
        return subprocess.list2cmdline(self.command) if os.name == "nt" else shlex.join(self.command)

    def poll(self) -> bool:
        """Whether it still runs; when it has just ended, loads its result."""
        if self.over:
            return False
        for line in self.process.poll():
            self.progress = advance(self.progress, line)
        if self.process.returncode is None:
            return True
        self.over = True
        try:
            if not self.cancelled:
                self._load()
        except MedSegError as error:
            self.error = error
        finally:
            self._tidy()
        return False

    def cancel(self) -> None:
        """Ask it to stop; `poll` goes on until it has. Nothing is loaded then, whatever was written."""
        self.process.cancel()

    def kill(self) -> None:
        """End it now, for when Slicer closes."""
        if not self.over:
            self.over = True
            self.process.kill()
            self._tidy()

    def show(self) -> None:
        """Scan and uncertainty in the slice views, centred on the most uncertain place."""
        if self.loaded is None:
            return
        overlay = self.loaded.maps.get("entropy") or next(iter(self.loaded.maps.values()), None)
        show_layers(self._scene, self._volume(), overlay)
        if self.peak is not None:
            jump(self._scene, self.peak)

    def _load(self) -> None:
        result = read_outcome(self.process.returncode, self.process.stdout, self.process.lines, self.out)
        volume = self._volume()
        transform = self.source.transform if self._scene.GetNodeByID(self.source.transform) else ""
        self.loaded = load_result(self._scene, result, volume, self._name, transform=transform)
        self.notes += [*result.notes, *(f"outside the training data: {what}" for what in result.outside_domain)]
        overlay = self.loaded.maps.get("entropy") or next(iter(self.loaded.maps.values()), None)
        if overlay is not None:
            self.peak = most_uncertain(overlay)
        if self.source.comparable and volume is not None:
            header = read_nifti_header(result.label_map) if result.label_map else None
            if header is None or not same_place(volume, header):
                self.notes.append("the result does not lie on the volume's own grid: look at both before you use it")
        if not self.kept:
            detach(self.loaded)

    def _volume(self) -> Any:
        return self._scene.GetNodeByID(self._volume_id)

    def _tidy(self) -> None:
        shutil.rmtree(self._work, ignore_errors=True)
        if self.kept and self.loaded is None:
            shutil.rmtree(self.out, ignore_errors=True)  # this run alone made it


def new_folder(parent: Path, name: str) -> Path:
    """Make `parent`/`name`, or with a number after it when that exists; nobody else can have made it.

    Raises:
        MedSegError: `parent` is no folder that can be written to.
    """
    path, number = parent / name, 1
    while True:
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
            path = parent / f"{name}_{number}"
        except OSError as error:
            what = f"no folder for the results can be made: {error.strerror or error}"
            raise MedSegError(what, "choose another folder to keep results in", file=str(parent)) from error
        else:
            return path
