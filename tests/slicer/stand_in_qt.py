"""Enough of Slicer's application for the widget to be used without Qt: controls as the .ui file describes them.

A control knows only the properties, signals and methods that its class has in Qt, ctk or qMRML; anything else that the
widget asks of it is an error, as it would be in the application (where assigning an unknown name would pass unseen).
"""

# ruff: noqa: N802  the names are Qt's
from __future__ import annotations

import sys
import types
import xml.etree.ElementTree as ET
from typing import ClassVar

import slicer

EVERY = {"enabled", "toolTip", "text"}
#: Class -> (properties, signals).
KNOWN = {
    "qMRMLWidget": (set(), {"mrmlSceneChanged(vtkMRMLScene*)"}),
    "ctkCollapsibleButton": ({"collapsed"}, set()),
    "qMRMLNodeComboBox": (
        {"nodeTypes", "showChildNodeTypes", "addEnabled", "removeEnabled", "noneEnabled"},
        {"currentNodeChanged(vtkMRMLNode*)"},
    ),
    "QLabel": ({"wordWrap", "textInteractionFlags"}, set()),
    "QPushButton": (set(), {"clicked(bool)"}),
    "QCheckBox": ({"checked"}, {"toggled(bool)"}),
    "QComboBox": ({"currentIndex", "currentData", "count", "sizePolicy"}, {"currentIndexChanged(int)"}),
    "QSpinBox": ({"value", "minimum", "maximum", "suffix"}, {"valueChanged(int)"}),
    "QProgressBar": ({"value", "maximum", "textVisible"}, set()),
    "QPlainTextEdit": ({"plainText", "readOnly", "lineWrapMode"}, set()),
    "ctkPathLineEdit": ({"currentPath", "filters"}, {"currentPathChanged(QString)"}),
}


class Control:
    """One control; emits its signal when the value that the signal is about is set."""

    def __init__(self, kind):
        properties, signals = KNOWN[kind]
        own = {"kind": kind, "known": properties | EVERY, "signals": signals, "slots": {}, "items": [], "node": None}
        self.__dict__.update(own, currentPath="", checked=False, value=0, currentIndex=-1, plainText="", enabled=True)

    def __setattr__(self, name, value):
        assert name in self.known, f"{self.kind} has no property {name}"
        assert name not in ("count", "currentData"), f"{name} is read-only"
        changed = self.__dict__.get(name) != value
        self.__dict__[name] = value
        signal = {"currentPath": "currentPathChanged(QString)", "currentIndex": "currentIndexChanged(int)"}.get(name)
        if changed and signal in self.slots:
            self.emit(signal, value)

    def connect(self, signal, slot):
        assert signal in self.signals, f"{self.kind} has no signal {signal}"
        assert callable(slot)
        self.slots.setdefault(signal, []).append(slot)

    def emit(self, signal, *values):
        for slot in self.slots.get(signal, ()):
            slot(*values)

    def click(self):
        assert self.enabled
        self.emit("clicked(bool)", False)

    # QComboBox
    @property
    def count(self):
        return len(self.items)

    @property
    def currentData(self):
        return self.items[self.currentIndex][1] if 0 <= self.currentIndex < len(self.items) else None

    def addItem(self, text, data=None):
        self.items.append([text, data, None])
        if self.currentIndex < 0:
            self.currentIndex = 0

    def setItemData(self, index, value, role):
        assert role == "ToolTipRole"
        self.items[index][2] = value

    def clear(self):
        self.items.clear()
        self.__dict__.update(currentIndex=-1, plainText="")

    # QPlainTextEdit
    def appendPlainText(self, text):
        assert isinstance(text, str)
        self.__dict__["plainText"] += text + "\n"

    # qMRMLNodeComboBox
    def setMRMLScene(self, scene):
        assert scene.IsA("vtkMRMLScene")

    def currentNode(self):
        return self.node

    def setCurrentNode(self, node):
        self.__dict__["node"] = node
        self.emit("currentNodeChanged(vtkMRMLNode*)", node)


class Timer:
    def __init__(self):
        self.running, self.single, self.slot = False, False, None

    def setInterval(self, ms):
        assert ms > 0

    def setSingleShot(self, single):
        self.single = single

    def connect(self, signal, slot):
        assert signal == "timeout()"
        self.slot = slot

    def start(self):
        self.running = True

    def stop(self):
        self.running = False

    def tick(self):
        if self.running:
            self.running = not self.single
            self.slot()


class Settings:
    values: ClassVar[dict[str, object]] = {}

    def setValue(self, key, value):
        self.values[key] = value


def install(scene, module_folder, startup):
    """Put the stand-ins where the module imports them from; returns the module MedSeg."""
    qt = types.ModuleType("qt")
    qt.QTimer, qt.QSettings = Timer, Settings
    qt.Qt = types.SimpleNamespace(ToolTipRole="ToolTipRole")
    scripted = types.ModuleType("slicer.ScriptedLoadableModule")

    class Module:
        def __init__(self, parent):
            self.parent = parent

    class Widget:
        def __init__(self, parent=None):
            self.parent, self.layout = parent, types.SimpleNamespace(addWidget=lambda _: None)

        def setup(self):
            pass

        def resourcePath(self, name):
            return str(module_folder / "Resources" / name)

    class Test:
        def delayDisplay(self, text):
            sys.stderr.write(text)

    scripted.ScriptedLoadableModule, scripted.ScriptedLoadableModuleWidget = Module, Widget
    scripted.ScriptedLoadableModuleTest = type("Test", (Test, __import__("unittest").TestCase), {})
    sys.modules.update({"qt": qt, "slicer.ScriptedLoadableModule": scripted})
    slicer.mrmlScene = scene
    util = __import__("slicer.util").util
    util.loadUI = load_ui
    util.childWidgetVariables = lambda widget: types.SimpleNamespace(**widget.children)
    util.settingsValue = lambda key, default: Settings.values.get(key, default)
    util.startupEnvironment = startup
    return __import__("MedSeg")


def load_ui(path):
    """The controls of a .ui file, by name, with the values that it gives them."""
    root = ET.parse(path).getroot()
    children = {}
    for element in root.iter("widget"):
        control = Control(element.get("class"))
        for child in element.findall("property"):
            name, value = child.get("name"), child[0]
            assert name in control.known, f"{element.get('class')} has no property {name}"
            control.__dict__[name] = {"bool": lambda v: v.text == "true", "number": lambda v: int(v.text)}.get(
                value.tag, lambda v: v.text
            )(value)
        for item in element.findall("item"):
            control.addItem(item.find("property/string").text)
        assert element.get("name") not in children, "a name stands once"
        children[element.get("name")] = control
    for connection in root.iter("connection"):
        sender, receiver = (children[connection.find(end).text] for end in ("sender", "receiver"))
        assert connection.find("signal").text in sender.signals
        assert callable(getattr(receiver, connection.find("slot").text.partition("(")[0]))
    top = children[root.find("widget").get("name")]
    top.__dict__["children"] = children
    return top
