"""A scene and its files as one .mrb, 3D Slicer's bundle: a zip with one folder, the data beside the scene."""

from __future__ import annotations

import errno
import os
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote
from xml.etree import ElementTree as ET

from medseg.reports.scene import SCENE
from medseg.writers.atomic import atomic_write

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOP = "scene"
#: A file of a zip needs a time; one scene gives one file, so it is always the first that a zip can state.
_DATE = (1980, 1, 1, 0, 0, 0)
_LARGE = 1 << 31
_PACKED = (".gz", ".nrrd")


def write_mrb(folder: Path, path: Path) -> None:
    """Write the scene of `folder` and every file that it names as one .mrb, atomically and read back.

    Args:
        folder: holds scene.mrml, see `write_scene`.
        path: the target, ends in .mrb.

    Raises:
        FileNotFoundError: the scene, or a file that it names.
        OutputError: MS-O101 to MS-O106, see `atomic_write`.
    """
    root = ET.fromstring((Path(folder) / SCENE).read_bytes())
    files: dict[str, Path] = {}
    for node in root.iter():
        if "fileName" in node.attrib:
            source = Path(folder) / unquote(node.attrib["fileName"])
            if not source.is_file():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
            node.set("fileName", f"Data/{quote(_place(source, files))}")
    text = b'<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="utf-8", xml_declaration=False)
    atomic_write(path, lambda temporary: _pack(temporary, text, files), check=lambda made: _check(made, files))


def _place(source: Path, files: dict[str, Path]) -> str:
    """The name of `source` under Data/, another one where two files of different folders share it."""
    name, number = source.name, 1
    while files.setdefault(name, source) != source:
        number += 1
        name = f"{number}_{source.name}"
    return name


def _pack(path: Path, text: bytes, files: Mapping[str, Path]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        scene = zipfile.ZipInfo(f"{_TOP}/{SCENE}", _DATE)
        scene.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(scene, text)
        for name, source in files.items():
            info = zipfile.ZipInfo(f"{_TOP}/Data/{name}", _DATE)
            info.compress_type = zipfile.ZIP_STORED if source.suffix in _PACKED else zipfile.ZIP_DEFLATED
            large = source.stat().st_size > _LARGE
            with source.open("rb") as data, archive.open(info, "w", force_zip64=large) as target:
                shutil.copyfileobj(data, target, 1 << 20)


def _check(path: Path, files: Mapping[str, Path]) -> None:
    with zipfile.ZipFile(path) as archive:
        broken = archive.testzip()
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    wanted = {f"{_TOP}/Data/{name}": source.stat().st_size for name, source in files.items()}
    if broken is not None or any(sizes.get(name) != size for name, size in wanted.items()):
        msg = f"{broken or 'a file'} is not as it was"
        raise ValueError(msg)
