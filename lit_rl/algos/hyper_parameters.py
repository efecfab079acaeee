"""Hyper-parameters of a checkpoint, and what becomes of them: arguments of a learner.

They are data. A ``class_path`` among them is looked up by :class:`~lit_rl.algos.names.NamedClasses`, at any
depth, and refused before anything is made where no argument asks for such a class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin

from lit_rl.algos.argument_types import (
    DICTS,
    LISTS,
    NUMBERS,
    Form,
    argument_hints,
    from_text,
    takes_no_class,
    takes_text,
    wanted_class,
)
from lit_rl.algos.names import NamedClasses, UntrustedError, import_name, is_same, shown
from lit_rl.arguments import alternatives

_GROUPS = ("init_args", "dict_kwargs")


def saved_hyper_parameters(content: Mapping[str, Any], checkpoint: str | Path) -> dict[str, Any]:
    """Return the hyper-parameters in a checkpoint, without the two entries that Lightning adds.

    Raises:
        ValueError: They are no mapping, or one of the two names what is never written there.
    """
    saved = content.get("hyper_parameters", {})
    if not isinstance(saved, Mapping) or not all(isinstance(name, str) for name in saved):
        raise ValueError(f"checkpoint {checkpoint} is damaged: its hyper_parameters are {shown(saved)}")
    saved = dict(saved)
    maker, learner = saved.pop("_instantiator", None), saved.pop("_class_path", None)
    trained = content["lit_rl"].get("class_path")
    if maker not in (None, "lightning.pytorch.cli.instantiate_module"):
        problem = f"names {shown(maker)} as what makes its learner"
    elif learner is not None and not is_same(learner, trained):
        problem = f"names two learners, {shown(trained)} and {shown(learner)}"
    else:
        return saved
    raise ValueError(f"checkpoint {checkpoint} {problem}, which no run writes; do not use this file")


@dataclass(frozen=True)
class SavedValues:
    """Turns values out of a checkpoint into arguments.

    Args:
        classes: The classes that may be named.
        remedy: What to do instead where a value is refused, with ``{argument}`` for the name.
        for_parser: Whether the result is for a parser of configurations, in plain types. The parser would
            import what text names in an argument that takes classes, so text is taken for no such argument.
    """

    classes: NamedClasses
    remedy: str
    for_parser: bool = False

    def argument(self, value: Any, hint: Any, where: str) -> Any:
        """Turn one value into an argument.

        Args:
            value: What the checkpoint holds.
            hint: Type of the argument; ``Any`` where it is not known.
            where: Name of the argument, with dots for those of nested classes.

        Raises:
            UntrustedError: The value is not plain, names a class that it may not name, or does not fit.
        """
        if value is None or type(value) in NUMBERS:
            return value
        if isinstance(value, str):
            return self._text(value, hint, where)
        if isinstance(value, Mapping) and "class_path" in value:
            return self._class(value, hint, where)
        if isinstance(value, Mapping):
            return self._mapping(value, hint, where)
        if isinstance(value, list | tuple):
            return self._list(value, hint, where)
        raise self._refusal(value, "plain data", where)

    def _text(self, text: str, hint: Any, where: str) -> Any:
        is_text, is_known = takes_text(hint, text), takes_no_class(hint)
        if not is_text and wanted_class(hint):
            return self._class({"class_path": text}, hint, where)
        if self.for_parser and not is_known:
            raise self._refusal(text, "no text where the argument may take classes", where)
        if is_known and not is_text:
            raise self._refusal(text, "no such text", where)
        return text if self.for_parser else from_text(hint, text)

    def _class(self, spec: Mapping[Any, Any], hint: Any, where: str) -> Any:
        wanted = wanted_class(hint)
        if wanted is None:
            raise self._refusal(spec["class_path"], "no class", where)
        base, form = wanted
        found = self.classes.find(spec["class_path"], base, where, self._remedy(where))
        groups = {name: spec.get(name) or {} for name in _GROUPS}
        is_spec = set(spec) <= {"class_path", *_GROUPS}
        if not is_spec or not all(isinstance(group, Mapping) for group in groups.values()):
            raise self._refusal(dict(spec), "class_path and init_args", where)
        made = {name: self._group(group, found, where) for name, group in groups.items() if group}
        return self._for_parser(found, form, made) if self.for_parser else _made(found, form, made)

    def _group(self, group: Mapping[Any, Any], owner: Any, where: str) -> dict[str, Any]:
        """Turn values by name into arguments of ``owner``."""
        if not all(isinstance(name, str) and name.isidentifier() for name in group):
            raise self._refusal(dict(group), "names as keys", where)  # a parser takes apart keys with dots
        hints = argument_hints(owner)
        return {k: self.argument(value, hints.get(k, Any), f"{where}.{k}") for k, value in group.items()}

    def _for_parser(self, found: Any, form: Form, groups: dict[str, Any]) -> Any:
        is_class_to_make = form != "class" and isinstance(found, type)
        return (
            {"class_path": import_name(found), **groups} if groups or is_class_to_make else import_name(found)
        )

    def _mapping(self, value: Mapping[Any, Any], hint: Any, where: str) -> Any:
        kinds = list(alternatives(hint))
        record = next((kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)), None)
        if record is not None:
            made = self._group(value, record, where)
            return made if self.for_parser else record(**made)
        if self.for_parser and wanted_class(hint):
            raise self._refusal(dict(value), "a class_path", where)  # the parser would add one
        if self.for_parser and any(isinstance(key, str) and "." in key for key in value):
            raise self._refusal(dict(value), "keys without dots", where)  # the parser would take them apart
        entries = (get_args(kind) for kind in kinds if get_origin(kind) in DICTS)
        inner = next((types[1] for types in entries), Any)
        return {key: self.argument(entry, inner, f"{where}.{key}") for key, entry in value.items()}

    def _list(self, value: Sequence[Any], hint: Any, where: str) -> Any:
        kind = next((kind for kind in alternatives(hint) if (get_origin(kind) or kind) in LISTS), list)
        origin, types = get_origin(kind) or kind, get_args(kind)
        is_fixed = origin is tuple and types and types[-1] is not Ellipsis
        if is_fixed and len(types) != len(value):
            raise self._refusal(value, f"{len(types)} entries", where)
        hints = types if is_fixed else [types[0] if types else Any] * len(value)
        made = [self.argument(entry, hints[i], f"{where}[{i}]") for i, entry in enumerate(value)]
        return origin(made) if origin in (tuple, set, frozenset) and not self.for_parser else made

    def _refusal(self, value: object, expected: str, where: str) -> UntrustedError:
        held = f"checkpoint {self.classes.checkpoint} holds {shown(value)} for {where}, expected {expected}"
        return UntrustedError(held, self._remedy(where))

    def _remedy(self, where: str) -> str:
        return self.remedy.format(argument=where.partition(".")[0].partition("[")[0])


def _made(found: Any, form: Form, groups: Mapping[str, dict[str, Any]]) -> Any:
    """Make what an argument wants of a class, or of a function that the caller named."""
    arguments = {name: value for group in groups.values() for name, value in group.items()}
    if form == "class" or (form == "maker" and not arguments):
        return found
    is_maker = form == "maker" and isinstance(found, type)
    return partial(found, **arguments) if is_maker else found(**arguments)
