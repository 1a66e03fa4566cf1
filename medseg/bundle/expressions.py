"""Whether a `$` expression of a bundle config may be evaluated: a walk over its syntax tree against allow-lists.

MONAI evaluates such strings with Python's `eval`. What passes here can compute with numbers, strings, lists and
the config's own objects, list files, build the components that are on medseg's list, and nothing else: no import
beyond a few modules, no attribute that begins with an underscore, no function that is not named below.

The walk must see the text that `eval` will see. MONAI first puts `__local_refs['id']` in the place of every
`@id`, inside string literals too, so that `'@f{...}'` would turn into an f-string: the caller does this
replacement before it asks.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The name under which MONAI keeps resolved references.
REFS = "__local_refs"

_BUILTINS = """
abs all any bool dict enumerate float int isinstance len list max min range reversed round set slice sorted str sum
tuple zip print True False None
"""
BUILTINS = frozenset(_BUILTINS.split())

#: Modules that `$import x` may name; what may be used of them is listed in `NAMES`.
MODULES = frozenset({"glob", "ignite", "itertools", "logging", "math", "monai", "numpy", "os", "os.path", "torch"})

#: Functions and constants that an expression may name in full. Constructors of components are added by the gate.
_NAMES = """
    glob.glob itertools.chain
    math.ceil math.floor math.inf math.log math.log2 math.nan math.pi math.prod math.sqrt
    os.cpu_count os.listdir os.path.abspath os.path.basename os.path.dirname os.path.exists os.path.isdir
    os.path.isfile os.path.join os.path.normpath os.path.sep os.path.splitext os.sep
    logging.DEBUG logging.ERROR logging.INFO logging.WARNING
    numpy.arange numpy.argmax numpy.array numpy.bool_ numpy.ceil numpy.concatenate numpy.float16 numpy.float32
    numpy.float64 numpy.floor numpy.inf numpy.int16 numpy.int32 numpy.int64 numpy.int8 numpy.linspace numpy.max
    numpy.mean numpy.min numpy.nan numpy.ones numpy.pi numpy.prod numpy.round numpy.stack numpy.sum numpy.uint16
    numpy.uint8 numpy.where numpy.zeros
    torch.argmax torch.bfloat16 torch.bool torch.cat torch.channels_last_3d
    torch.cuda.device_count torch.cuda.is_available torch.device torch.eye torch.float torch.float16 torch.float32
    torch.float64 torch.half torch.inf torch.int torch.int16 torch.int32 torch.int64 torch.int8 torch.long torch.max
    torch.mean torch.min torch.ones torch.round torch.sigmoid torch.softmax torch.stack torch.sum torch.tensor
    torch.uint8 torch.where torch.zeros
    monai.data.decollate_batch monai.data.list_data_collate monai.data.load_decathlon_datalist
    monai.data.pad_list_data_collate monai.data.partition_dataset
    monai.handlers.from_engine monai.handlers.utils.from_engine
    monai.utils.CommonKeys.IMAGE monai.utils.CommonKeys.LABEL monai.utils.CommonKeys.PRED monai.utils.set_determinism
    ignite.engine.Events.COMPLETED ignite.engine.Events.EPOCH_COMPLETED ignite.engine.Events.ITERATION_COMPLETED
    ignite.engine.Events.STARTED
"""
NAMES = frozenset(_NAMES.split())

#: Attributes and methods that any object may be asked for. None of them runs code on the objects that a gated
#: config can build, and imported modules cannot be reached by reference.
_ATTRIBUTES = """
    run to parameters state_dict load_state_dict eval train values keys items get split rsplit lower upper join
    replace strip lstrip rstrip startswith endswith index count shape ndim size dim dtype device type float int long
    bool half cpu numpy mean max min sum std argmax squeeze unsqueeze permute transpose flatten reshape clone any all
    item state output metrics epoch iteration batch network optimizer inferer transforms data ema_model meta leave
"""
ATTRIBUTES = frozenset(_ATTRIBUTES.split())

_NODES = (
    ast.Expression, ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.BinOp, ast.UnaryOp, ast.BoolOp,
    ast.Compare, ast.IfExp, ast.Subscript, ast.Slice, ast.Call, ast.keyword, ast.Starred, ast.Attribute, ast.Name,
    ast.Lambda, ast.arguments, ast.arg, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.comprehension,
    ast.JoinedStr, ast.FormattedValue, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context,
)  # fmt: skip


def why_refused(text: str, names: frozenset[str] = NAMES, imported: Mapping[str, str] | None = None) -> str | None:
    """Why an expression must not be evaluated, None when it may be.

    Args:
        text: the expression without `$`, references already replaced by `__local_refs['id']`.
        names: full names that may be used.
        imported: what import statements of the same config bound: name -> full name.
    """
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"is not an expression ({type(error).__name__})"
    walk = _Walk(names, {"np": "numpy", **(imported or {})}, _bound(tree))
    try:
        walk.visit(tree)
    except _RefusedError as refusal:
        return str(refusal)
    except RecursionError:
        return "is nested too deeply"
    return None


def imported_names(text: str) -> tuple[dict[str, str], str | None]:
    """What an import statement binds, and why it is refused (None when it may run).

    Accepts `import x` of a listed module and `from x import y` of a listed name; the only alias is np.
    """
    tree = ast.parse(text)
    statement = tree.body[0]
    if len(tree.body) != 1 or not isinstance(statement, ast.Import | ast.ImportFrom) or len(statement.names) != 1:
        return {}, "is more than one import"
    alias = statement.names[0]
    if isinstance(statement, ast.Import):
        if alias.name not in MODULES:
            return {}, f"imports {alias.name}"
        if alias.asname not in (None, alias.name) and (alias.name, alias.asname) != ("numpy", "np"):
            return {}, f"imports {alias.name} under another name"
        return {(alias.asname or alias.name).split(".")[0]: alias.name.split(".")[0]}, None
    full = f"{statement.module}.{alias.name}"
    if statement.level or full not in NAMES or alias.asname:
        return {}, f"imports {full}"
    return {alias.name: full}, None


class _RefusedError(Exception):
    pass


def _refuse(why: str) -> NoReturn:
    raise _RefusedError(why)


class _Walk(ast.NodeVisitor):
    def __init__(self, names: frozenset[str], aliases: Mapping[str, str], bound: frozenset[str]) -> None:
        self.names, self.aliases, self.bound = names, aliases, bound

    def generic_visit(self, node: ast.AST) -> None:
        if not isinstance(node, _NODES):
            _refuse(f"uses {type(node).__name__}")
        super().generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self.bound:
            return
        if node.id not in BUILTINS and self.aliases.get(node.id) not in self.names:
            _refuse(f"names {node.id}")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        dotted = self._dotted(node)
        if dotted is not None:
            if dotted not in self.names:
                _refuse(f"names {dotted}")
            return
        if node.attr.startswith("_") or node.attr not in ATTRIBUTES:
            _refuse(f"asks for .{node.attr}")
        self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.value, ast.Name) and node.value.id == REFS and REFS not in self.bound:
            if not (isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str)):
                _refuse("reaches for all references")
            return
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if _sets_cudnn(node):
            return
        if isinstance(node.func, ast.Attribute) and self._dotted(node.func) == "torch.load":
            self._check_load(node)
            return
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.Pow | ast.LShift):
            exponent = node.right
            if not (isinstance(exponent, ast.Constant) and isinstance(exponent.value, int | float)) or not (
                abs(exponent.value) <= 64
            ):
                _refuse("raises to a power that is not a small number")
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        if node.arg.startswith("_"):
            _refuse(f"names an argument {node.arg}")

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg is None:
            _refuse("hides its arguments behind **")
        self.visit(node.value)

    def _dotted(self, node: ast.expr) -> str | None:
        """'os.path.join' for a chain of attributes on a free name, imported names written in full, else None."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id in self.bound:
            return None
        root = self.aliases.get(node.id, node.id)
        return ".".join([root, *reversed(parts)])

    def _check_load(self, node: ast.Call) -> None:
        """`torch.load(path, map_location=...)`: torch's own default since 2.6 is weights_only=True."""
        for keyword in node.keywords:
            safe = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
            if keyword.arg != "map_location" and not (keyword.arg == "weights_only" and safe):
                _refuse(f"calls torch.load with {keyword.arg}")
        if len(node.args) > 2 or any(isinstance(a, ast.Starred) for a in node.args):
            _refuse("calls torch.load with more than a path")
        for child in (*node.args, *(k.value for k in node.keywords)):
            self.visit(child)


def _bound(tree: ast.AST) -> frozenset[str]:
    """Names that comprehensions and lambdas bind anywhere in the expression; module names among them stay modules."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
    taken = {name.split(".")[0] for name in NAMES | MODULES} | BUILTINS | {REFS}
    return frozenset(found - taken)


def _sets_cudnn(node: ast.Call) -> bool:
    """The zoo's `setattr(torch.backends.cudnn, 'benchmark', True)`, letter for letter."""
    return ast.unparse(node) in {
        f"setattr(torch.backends.cudnn, '{name}', {value})"
        for name in ("benchmark", "deterministic")
        for value in (True, False)
    }
