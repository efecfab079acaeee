"""What classes of lit_rl declare, read from their source: importing them would load torch, for seconds."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import lit_rl
import lit_rl.callbacks

_LIGHT = ("typing", "collections.abc", "lit_rl.arguments")
"""Modules that are imported where a type is taken from them; all others are only read."""
_ENTRY = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \([^)]*\))?: (.*)")


@dataclass(frozen=True)
class Argument:
    """One argument of a constructor.

    Args:
        name: Its name.
        hint: Its type; a class of which only the name is known stands for what was not imported.
        default: Its default as it is written, with names of numbers resolved; None where it must be given.
        text: Sentences about it; empty where there are none.
    """

    name: str
    hint: Any
    default: str | None
    text: str


@dataclass(frozen=True)
class Source:
    """A class as its file declares it.

    Args:
        node: The class.
        module: Name of the module that it stands in.
    """

    node: ast.ClassDef
    module: str

    @staticmethod
    def find(name: str, module: str) -> Source | None:
        """Find a class in a module of lit_rl; None where the module has no class of this name."""
        node = _Names.of(module).nodes.get(name)
        return Source(node, module) if isinstance(node, ast.ClassDef) else None

    @property
    def sentence(self) -> str:
        """First sentence of the docstring."""
        paragraph = (ast.get_docstring(self.node) or "").partition("\n\n")[0]
        return " ".join(paragraph.split())

    def arguments(self) -> list[Argument]:
        """Return the arguments, and those that the constructor hands on to its base."""
        declared: dict[str, tuple[str, ast.expr | None, ast.expr | None]] = {}
        texts: dict[str, str] = {}
        bases = list(self._with_bases())
        for source in bases:
            texts = source._texts() | texts
        for source in bases:
            for name, annotation, default in source._parameters():
                declared.setdefault(name, (source.module, annotation, default))
            if not source._hands_on():
                break
        return [
            Argument(name, _hint(annotation, module), _default(default, module), texts.get(name, ""))
            for name, (module, annotation, default) in declared.items()
        ]

    def _with_bases(self) -> Iterator[Source]:
        yield self
        for base in self.node.bases:
            found = _Names.of(self.module).source(base.id) if isinstance(base, ast.Name) else None
            if found is not None:
                yield from found._with_bases()

    def _constructor(self) -> ast.FunctionDef | None:
        found = (part for part in self.node.body if isinstance(part, ast.FunctionDef))
        return next((part for part in found if part.name == "__init__"), None)

    def _is_dataclass(self) -> bool:
        return any("dataclass" in ast.unparse(each) for each in self.node.decorator_list)

    def _hands_on(self) -> bool:
        """Tell whether the base takes arguments, too: there is no constructor, or it has ``**kwargs``."""
        constructor = self._constructor()
        if constructor is None:
            return not self._is_dataclass()
        return constructor.args.kwarg is not None

    def _parameters(self) -> Iterator[tuple[str, ast.expr | None, ast.expr | None]]:
        constructor = self._constructor()
        if constructor is not None:
            given = constructor.args
            places = [*given.posonlyargs, *given.args][1:]
            lacking = [None] * (len(places) - len(given.defaults[-len(places) or len(given.defaults) :]))
            for each, default in zip(places, [*lacking, *given.defaults], strict=True):
                yield each.arg, each.annotation, default
            for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
                yield each.arg, each.annotation, default
        elif self._is_dataclass():
            fields = (part for part in self.node.body if isinstance(part, ast.AnnAssign))
            for field in fields:
                if isinstance(field.target, ast.Name):
                    yield field.target.id, field.annotation, field.value

    def _texts(self) -> dict[str, str]:
        """Return what the docstring says of each argument."""
        constructor = self._constructor()
        docs = [ast.get_docstring(self.node), ast.get_docstring(constructor) if constructor else None]
        texts: dict[str, str] = {}
        for doc in filter(None, docs):
            section = re.search(r"^(?:Args|Attributes):\n((?:    .*\n|\n)+)", doc + "\n", re.MULTILINE)
            names: list[str] = []
            for line in inspect.cleandoc(section[1]).splitlines() if section else ():
                entry = None if line.startswith(" ") else _ENTRY.match(line)
                names = [name.strip() for name in entry[1].split(",")] if entry else names
                for name in names:
                    said = entry[2] if entry else line.strip()
                    texts[name] = said if entry else f"{texts[name]} {said}".strip()
        return texts


class _Unknown(type):
    """A class of which only the name is known."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _unknown(name)

    def __getitem__(cls, item: object) -> Any:
        return cls


def _unknown(name: str) -> _Unknown:
    return _Unknown(name, (), {})


def is_unknown(hint: object) -> bool:
    """Tell whether only the name of a type is known."""
    return isinstance(hint, _Unknown)


class _Names(dict[str, Any]):
    """The names of a module, worked out when asked for."""

    def __init__(self, module: str) -> None:
        super().__init__()
        self._module = module
        self.nodes: dict[str, ast.stmt] = {}
        path = _file(module)
        for node in ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else ():
            for name in _bound(node):
                self.nodes[name] = node

    @staticmethod
    @functools.cache
    def of(module: str) -> _Names:
        """Read a module of lit_rl; there are no names where it has no file."""
        return _Names(module)

    def source(self, name: str) -> Source | None:
        """Find a class of lit_rl by the name that it has in this module."""
        node = self.nodes.get(name)
        if isinstance(node, ast.ClassDef):
            return Source(node, self._module)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lit_rl"):
            return _Names.of(str(node.module)).source(_original(node, name))
        return None

    def __missing__(self, name: str) -> Any:
        self[name] = found = self._find(name)
        return found

    def _find(self, name: str) -> Any:
        node = self.nodes.get(name)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            names = [getattr(target, "id", None) for target in node.targets[0].elts]
            return _evaluate(node.value, self._module)[names.index(name)]
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            return _evaluate(node.value, self._module)
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module in _LIGHT:
                return getattr(import_module(node.module), _original(node, name))
            if node.module.startswith("lit_rl"):
                return _Names.of(node.module)[_original(node, name)]
        return getattr(builtins, name) if node is None and hasattr(builtins, name) else _unknown(name)


def _bound(node: ast.stmt) -> Iterator[str]:
    """Name what a statement binds."""
    if isinstance(node, ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in node.names)
    elif isinstance(node, ast.Assign):
        names = [part for target in node.targets for part in getattr(target, "elts", [target])]
        yield from (part.id for part in names if isinstance(part, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id
    elif isinstance(node, ast.If):  # imports for type checkers
        for part in node.body:
            yield from _bound(part)


def _original(node: ast.ImportFrom, name: str) -> str:
    return next(alias.name for alias in node.names if name in (alias.asname, alias.name))


def _file(module: str) -> Path:
    """Return the file of a module of lit_rl; callbacks may lie beside the package."""
    parts = module.split(".")[1:]
    if parts[:1] == ["callbacks"]:
        root, parts = Path(str(lit_rl.callbacks.__file__)).parent, parts[1:]
    else:
        root = Path(lit_rl.__file__).parent
    path = root.joinpath(*parts)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _evaluate(node: ast.expr, module: str) -> Any:
    """Evaluate a type, a default or a constant of lit_rl's own files, as Python would on import."""
    code = compile(ast.fix_missing_locations(ast.Expression(node)), module, "eval")
    return eval(code, {"__builtins__": {}}, _Names.of(module))


def _hint(annotation: ast.expr | None, module: str) -> Any:
    return Any if annotation is None else _evaluate(annotation, module)


def _default(node: ast.expr | None, module: str) -> str | None:
    """Write a default as YAML would take it; a call stays as it is written."""
    if node is None:
        return None
    as_written = ast.unparse(node)
    if any(isinstance(part, ast.Call | ast.Lambda | ast.Attribute) for part in ast.walk(node)):
        return as_written
    value = _evaluate(node, module)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if is_unknown(value):
        return as_written
    return str(list(value)) if isinstance(value, tuple) else str(value)
