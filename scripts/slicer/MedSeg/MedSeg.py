"""The MedSeg module of 3D Slicer: its controls. What they do is in MedSegLib, which knows no Qt."""

import logging
import time
from pathlib import Path

import numpy as np
import qt
import slicer
from MedSegLib.command import Options
from MedSegLib.errors import MedSegError
from MedSegLib.logic import CANCELLED, MedSegLogic
from MedSegLib.nifti_header import read_nifti_header
from MedSegLib.source import prepare
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

SETTING = "MedSeg/Executable"
POLL_MS = 200
TYPED_MS = 600
#: The entries of the uncertainty list, in the order of the .ui file; "mc" takes the number of samples.
UNCERTAINTY = ("", "mc", "tta", "ensemble", "ensemble+tta")
DEVICES = ("auto", "cpu", "cuda")


class MedSeg(ScriptedLoadableModule):
    """What the module says of itself."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = "MedSeg"
        self.parent.categories = ["Segmentation"]
        self.parent.dependencies = []
        self.parent.contributors = ["The medseg authors"]
        self.parent.helpText = (
            "Segments a volume with medseg, which runs outside Slicer in a Python of its own, and shows where the "
            "model is unsure. Point Settings to the medseg program once. For research use only: not a medical device."
        )
        self.parent.acknowledgementText = "medseg is built on MONAI and PyTorch."


class MedSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Binds the controls to the logic; a timer looks after what runs."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.job = None
        self.listing = None
        self.linesShown = 0

    def setup(self):
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/MedSeg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)

        self.logic = MedSegLogic(slicer.mrmlScene, startup=startupEnvironment())
        self.ui.medsegPathEdit.currentPath = slicer.util.settingsValue(SETTING, "")
        self.logic.setting = self.ui.medsegPathEdit.currentPath

        self.timer = qt.QTimer()
        self.timer.setInterval(POLL_MS)
        self.timer.connect("timeout()", self.onTimer)
        self.typed = qt.QTimer()  # a path changes with every letter: medseg is asked when it has come to rest
        self.typed.setSingleShot(True)
        self.typed.setInterval(TYPED_MS)
        self.typed.connect("timeout()", self.onRefresh)
        self.ui.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.updateControls)
        self.ui.bundleComboBox.connect("currentIndexChanged(int)", self.updateControls)
        self.ui.bundlePathEdit.connect("currentPathChanged(QString)", self.updateControls)
        self.ui.uncertaintyComboBox.connect("currentIndexChanged(int)", self.updateControls)
        self.ui.medsegPathEdit.connect("currentPathChanged(QString)", self.onMedsegPath)
        self.ui.refreshButton.connect("clicked(bool)", self.onRefresh)
        self.ui.applyButton.connect("clicked(bool)", self.onApply)
        self.ui.cancelButton.connect("clicked(bool)", self.onCancel)
        self.ui.jumpButton.connect("clicked(bool)", self.onJump)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.onRefresh()

    def cleanup(self):
        """Slicer closes, or the module is loaded again: nothing goes on without it."""
        self.removeObservers()
        if self.logic is None:  # setup did not come to its end
            return
        self.timer.stop()
        self.typed.stop()
        self.stopAll()

    def stopAll(self):
        """End what runs and forget it."""
        for running in (self.listing, self.job):
            if running is not None:
                running.kill()
        self.listing = self.job = None

    def onSceneStartClose(self, *_):
        """The volume goes: so does what is made of it."""
        if self.job is not None:
            self.job.kill()
            self.job = None
            self.ui.statusLabel.text = CANCELLED
        self.updateControls()

    def options(self):
        """What the controls say."""
        uncertainty = UNCERTAINTY[self.ui.uncertaintyComboBox.currentIndex]
        if uncertainty == "mc":
            uncertainty = f"mc:{self.ui.samplesSpinBox.value}"
        return Options(
            bundle=self.ui.bundlePathEdit.currentPath or self.ui.bundleComboBox.currentData or "",
            uncertainty=uncertainty,
            device=DEVICES[self.ui.deviceComboBox.currentIndex],
            outside_domain=self.ui.outsideDomainCheckBox.checked,
        )

    def updateControls(self, *_):
        """Enable what can be done now."""
        running = self.job is not None and not self.job.over
        volume = self.ui.volumeSelector.currentNode()
        ready = volume is not None and bool(self.options().bundle)
        self.ui.applyButton.enabled = ready and not running
        self.ui.applyButton.toolTip = "Start medseg." if ready else "Choose a volume and a bundle first."
        self.ui.cancelButton.enabled = running and not self.job.cancelled
        self.ui.jumpButton.enabled = self.job is not None and self.job.peak is not None
        self.ui.samplesSpinBox.enabled = UNCERTAINTY[self.ui.uncertaintyComboBox.currentIndex] == "mc"
        self.ui.refreshButton.enabled = self.listing is None

    def onMedsegPath(self, path):
        """Another medseg was chosen."""
        qt.QSettings().setValue(SETTING, path)
        self.logic.setting = path
        self.typed.start()

    def onRefresh(self, *_):
        """Ask medseg for its bundles."""
        if self.listing is not None:
            self.listing.kill()
            self.listing = None
        self.ui.bundleComboBox.clear()
        try:
            self.listing = self.logic.list_bundles()
        except MedSegError as error:
            self.showError(error)
        else:
            self.ui.statusLabel.text = "asking medseg for its bundles"
            self.timer.start()
        self.updateControls()

    def onApply(self, *_):
        """Start medseg."""
        keep = self.ui.keepPathEdit.currentPath
        self.ui.logText.clear()
        self.linesShown = 0
        try:
            volume = self.ui.volumeSelector.currentNode()
            self.job = self.logic.segment(volume, self.options(), Path(keep) if keep else None)
        except MedSegError as error:
            self.showError(error)
        else:
            self.ui.logText.appendPlainText(self.job.command_line)
            self.ui.statusLabel.text = self.job.progress.text
            self.ui.progressBar.maximum = 0  # busy, until it is known how far it is
            self.timer.start()
        self.updateControls()

    def onCancel(self, *_):
        """Ask medseg to stop."""
        if self.job is not None:
            self.job.cancel()
            self.ui.statusLabel.text = "stopping medseg"
        self.updateControls()

    def onJump(self, *_):
        """Centre the views on the most uncertain place."""
        if self.job is not None:
            self.job.show()

    def onTimer(self):
        """Look after what runs."""
        if self.listing is not None and not self.listing.poll():
            self.onListed()
        if self.job is not None and not self.job.over:
            try:
                running = self.job.poll()
            finally:  # also when something unforeseen goes to the Python console
                self.updateControls()
            self.showLines()
            if running:
                self.showProgress()
            else:
                self.onEnded()
        if self.listing is None and (self.job is None or self.job.over):
            self.timer.stop()

    def onListed(self):
        """The bundles are there."""
        listing, self.listing = self.listing, None
        if listing.error is not None:
            self.showError(listing.error)
        else:
            for bundle in listing.bundles:
                if bundle.weights:
                    self.ui.bundleComboBox.addItem(bundle.title, bundle.name)
                    self.ui.bundleComboBox.setItemData(self.ui.bundleComboBox.count - 1, bundle.tip, qt.Qt.ToolTipRole)
            self.ui.statusLabel.text = "" if self.ui.bundleComboBox.count else "this medseg has no bundle with weights"
        self.updateControls()

    def onEnded(self):
        """Medseg is through, well or not."""
        job = self.job
        self.ui.progressBar.maximum = 1000
        self.ui.progressBar.value = 0
        if job.cancelled:
            self.ui.statusLabel.text = CANCELLED
        elif job.error is not None:
            self.showError(job.error)
        else:
            self.ui.progressBar.value = 1000
            for note in job.notes:
                self.ui.logText.appendPlainText(f"note: {note}")
            where = f"; files in {job.out}" if job.kept else ""
            warning = "\n" + "\n".join(job.notes) if job.notes else ""
            self.ui.statusLabel.text = f"done{where}. For research use only.{warning}"
            job.show()
        self.updateControls()

    def showLines(self):
        """What medseg said since the last time."""
        lines = self.job.process.lines
        for line in lines[self.linesShown :]:
            self.ui.logText.appendPlainText(line)
        self.linesShown = len(lines)

    def showProgress(self):
        """How far it is."""
        if self.job.cancelled:
            return
        fraction = self.job.progress.fraction
        self.ui.progressBar.maximum = 1000 if fraction else 0
        if fraction:
            self.ui.progressBar.value = round(1000 * fraction)
        self.ui.statusLabel.text = self.job.progress.text

    def showError(self, error):
        """An error that the user can mend stays in the panel: no window to click away."""
        logging.getLogger(__name__).warning(str(error))
        self.ui.statusLabel.text = str(error)


def startupEnvironment():
    """The environment before Slicer's launcher; None where this Slicer cannot tell."""
    try:
        return slicer.util.startupEnvironment()
    except AttributeError:
        return None


class MedSegTest(ScriptedLoadableModuleTest):
    """Runs inside Slicer: Developer tools > Reload and Test."""

    def setUp(self):
        """An empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """All tests."""
        self.setUp()
        self.test_errorWithoutMedseg()
        self.setUp()
        self.test_volumeIsHandedOver()
        self.setUp()
        self.test_bundlesAreListed()

    def test_errorWithoutMedseg(self):
        """A wrong setting is told, with the mend."""
        with self.assertRaises(MedSegError) as caught:
            MedSegLogic(slicer.mrmlScene, "/no/such/medseg").list_bundles()
        self.assertIn("pip install medseg", str(caught.exception))

    def test_volumeIsHandedOver(self):
        """A volume's copy lies where the volume lies."""
        volume = slicer.util.addVolumeFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5))
        volume.SetOrigin(1.0, -20.0, 300.0)
        folder = Path(slicer.util.tempDirectory())
        header = read_nifti_header(prepare(volume, folder).path)
        self.assertEqual(header.shape[:3], (5, 4, 3))
        self.assertEqual([row[3] for row in header.affines[0]][:3], [1.0, -20.0, 300.0])

    def test_bundlesAreListed(self):
        """The medseg of the settings answers; needs one."""
        logic = MedSegLogic(slicer.mrmlScene, slicer.util.settingsValue(SETTING, ""), startupEnvironment())
        try:
            listing = logic.list_bundles()
        except MedSegError as error:
            self.delayDisplay(f"skipped: {error}")
            return
        end = time.monotonic() + 120
        while listing.poll():
            self.assertLess(time.monotonic(), end)
            slicer.app.processEvents()
        self.assertIsNone(listing.error)
        self.assertTrue(listing.bundles)
