"""The walk over `$` expressions: what the model zoo computes passes, what could run code does not."""

from __future__ import annotations

import builtins
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.bundle.expressions import ATTRIBUTES, BUILTINS, NAMES, imported_names, why_refused

SOUND = [
    "torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "__local_refs['bundle_root'] + '/models/model.pt'",
    "list(sorted(glob.glob(__local_refs['dataset_dir'] + '/imagesTs/*.nii.gz')))",
    "[{'image': i, 'label': l} for i, l in zip(__local_refs['images'][:-9], __local_refs['labels'][:-9])]",
    "os.path.join(__local_refs['bundle_root'], 'eval')",
    "__local_refs['network_def'].to(__local_refs['device'])",
    "__local_refs['evaluator'].run()",
    "__local_refs['checkpointloader'](__local_refs['evaluator'])",
    "__local_refs['train::deterministic_transforms'] + __local_refs['train::random_transforms']",
    "monai.utils.set_determinism(seed=123)",
    "setattr(torch.backends.cudnn, 'benchmark', True)",
    "monai.handlers.from_engine(['pred', 'label'])",
    "lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, 0))",
    "lambda output: ([o['pred'][:2] for o in output], [o['label'][:2] for o in output])",
    "np.float32",
    "torch.load(__local_refs['path'], map_location=torch.device('cpu'))",
    "[1.5, 1.5, 1.5] if __local_refs['highres'] else [3.0, 3.0, 3.0]",
    "2 ** 8",
    "monai.data.load_decathlon_datalist(__local_refs['f'], data_list_key='testing', base_dir=__local_refs['d'])",
]

HOSTILE = [
    "__import__('os').system('x')",
    "eval('1')",
    "exec('1')",
    "compile('1', '', 'eval')",
    "open('/etc/passwd').read()",
    "getattr(torch, 'load')",
    "globals()",
    "vars(torch)",
    "os.system('x')",
    "os.popen('x')",
    "os.remove('x')",
    "os.environ",
    "().__class__.__base__.__subclasses__()",
    "''.__class__",
    "(1).__class__.__mro__",
    "'{0.__class__}'.format(1)",
    "f'{(1).__class__}'",
    "(lambda: 0).__globals__",
    "(x for x in ()).gi_frame",
    "torch.load('x', weights_only=False)",
    "torch.load('x', pickle_module=__local_refs['m'])",
    "torch.load('x', **{'weights_only': False})",
    "torch.load('x', None, __local_refs['m'])",
    "[f('x', weights_only=False) for f in [torch.load]]",
    "torch.hub.load('a/b', 'c')",
    "torch.ops.load_library('x')",
    "torch.utils.cpp_extension.load('x', 'y')",
    "torch.jit.load('x')",
    "np.load('x', allow_pickle=True)",
    "numpy.lib.npyio.DataSource",
    "monai.bundle.run('x')",
    "monai.utils.load_submodules(1)",
    "monai.apps.utils.download_url('http://x', 'y')",
    "monai.transforms.LoadImaged('image', reader='os.system')",
    "monai.data.PersistentDataset([], None, '/tmp')",
    "setattr(torch, 'load', 1)",
    "setattr(torch.backends.cudnn, 'benchmark', os.system('x'))",
    "delattr(torch, 'load')",
    "__local_refs",
    "__local_refs[__local_refs['x']]",
    "[__local_refs for __local_refs in [1]]",
    "[y for y in [(z := 1)]]",
    "__builtins__",
    "breakpoint()",
    "input()",
    "type('X', (), {})",
    "9 ** 9 ** 9",
    "1 << __local_refs['n']",
    "await x",
    "lambda __class__: 1",
    "import os",
    "1; 2",
    "",
    "(",
    "\x00",
    "(" * 500 + "1" + ")" * 500,
]


@pytest.mark.parametrize("text", SOUND)
def test_what_bundles_compute_passes(text):
    assert why_refused(text) is None


@pytest.mark.parametrize("text", HOSTILE)
def test_what_could_run_code_does_not(text):
    assert why_refused(text) is not None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("os.system('x')", "names os.system"),
        ("np.load('x')", "names numpy.load"),
        ("''.__class__", "asks for .__class__"),
        ("eval('1')", "names eval"),
        ("torch.load('x', weights_only=False)", "torch.load with weights_only"),
        ("(", "not an expression"),
    ],
)
def test_the_reason_names_what_was_found(text, reason):
    assert reason in why_refused(text)


@pytest.mark.parametrize("text", ["import glob", "import os", "import torch", "import numpy as np", "import os.path"])
def test_listed_modules_may_be_imported(text):
    assert imported_names(text)[1] is None


@pytest.mark.parametrize(
    "text",
    [
        "import subprocess",
        "import os as torch",
        "import numpy as os",
        "from os import system",
        "from os import *",
        "from . import x",
        "import glob, subprocess",
        "import glob; import subprocess",
        "import scripts.net",
        "from scripts import net",
        "from monai.handlers import from_engine as print",
    ],
)
def test_other_imports_are_refused(text):
    assert imported_names(text)[1] is not None


def test_a_listed_name_may_be_imported_and_used():
    names, reason = imported_names("from monai.handlers import from_engine")
    assert reason is None
    assert why_refused("from_engine(['pred'])", imported=names) is None
    assert why_refused("from_engine(['pred'])") is not None


def test_no_listed_name_is_a_way_out():
    assert not {"eval", "exec", "compile", "open", "getattr", "vars", "type", "globals", "__import__"} & BUILTINS
    assert not any(part.startswith("_") for name in NAMES | ATTRIBUTES for part in name.split("."))
    assert not {"system", "popen", "load", "format", "exec"} & ATTRIBUTES


@given(st.recursive(st.sampled_from(["1", "__local_refs['a']", "'x'", "torch.device", "sum"]), lambda inner: st.one_of(
    st.tuples(inner, st.sampled_from(sorted(set(dir(object)) | {"system", "run", "to", "__dict__"}))).map(lambda p: f"({p[0]}).{p[1]}"),
    st.tuples(inner, inner).map(lambda p: f"{p[0]}({p[1]})"),
    inner.map(lambda x: f"[y for y in {x}]"),
), max_leaves=6))  # fmt: skip
def test_whatever_passes_reaches_no_underscore(text):
    if why_refused(text) is None:
        assert "._" not in text
        assert ".system" not in text


def test_the_names_that_pass_exist():
    import importlib

    for name in NAMES:
        module, rest = name.split(".")[0], name.split(".")[1:]
        thing = importlib.import_module(module)
        for number, part in enumerate(rest):
            if not hasattr(thing, part):
                thing = importlib.import_module(".".join([module, *rest[: number + 1]]))
            else:
                thing = getattr(thing, part)
        assert thing not in (eval, exec, open, builtins.__import__, subprocess.run)
