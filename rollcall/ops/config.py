"""TOML files into frozen attrs classes, whole or not at all.

Every mistake of a file is reported at once, each with the file, the key as a dotted path (list items are counted
from 0: `listen[0].port`), the value and what is allowed there. Unknown keys are mistakes. A field made by secret()
may be given in another file: for `token` write `token_file`. Relative paths start at the configuration file.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

import attrs
from cattrs import Converter

from rollcall.ops.allowed import NotAllowed, Validator

SECRET = "rollcall.secret"
HIDDEN = "(hidden)"
LONGEST_VALUE_SHOWN = 80
# "'port' must be >= 1: 0" and "'kind' must be in ('a', 'b') (got 'c')" say the key and the value again
ATTRS_SENTENCE = re.compile(r"(?s)^(?:'\w+' must be )(.*?)(?:: [^:]*| \(got .*)?$")

ConfigType = TypeVar("ConfigType")


@attrs.frozen
class Problem:
    """One mistake in a configuration file: `value` is already text, empty when the key is not there."""

    file: str
    key: str
    value: str
    allowed: str

    def __str__(self) -> str:
        place = f"{self.file}: {self.key}" if self.key else self.file
        if not self.value:
            return f"{place}: {self.allowed}"
        return f"{place}: {self.value} is not allowed; allowed: {self.allowed}"


class ConfigError(Exception):
    """A configuration that cannot be used, with everything that is wrong in it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def secret(default: Any = attrs.NOTHING, validator: Validator | None = None) -> Any:
    """Return an attrs field that is never shown and may be given as `…_file`."""
    return attrs.field(default=default, validator=validator, repr=False, metadata={SECRET: True})


def load(path: Path | str, cls: type[ConfigType]) -> ConfigType:
    """Return the configuration in this TOML file. Raises ConfigError."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([Problem(str(path), "", "", f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(str(path), "", "", f"is not UTF-8 text: {error.reason}")]) from error
    return loads(text, cls, path)


def loads(text: str, cls: type[ConfigType], path: Path = Path("configuration")) -> ConfigType:
    """Return the configuration in this TOML text; `path` is where it came from. Raises ConfigError."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([Problem(str(path), "", "", f"is not TOML: {error}")]) from error
    try:
        return _converter(path.absolute().parent).structure(table, cls)
    except _Wrong as wrong:
        raise ConfigError(
            Problem(str(path), mistake.key, mistake.value, mistake.allowed) for mistake in wrong.mistakes
        ) from None


@attrs.frozen
class _Mistake:
    key: str
    value: str
    allowed: str

    def below(self, key: str) -> "_Mistake":
        joint = "" if not self.key or self.key.startswith("[") else "."
        return attrs.evolve(self, key=key + joint + self.key)


class _Wrong(Exception):
    """The mistakes of a value, their keys relative to it."""

    def __init__(self, mistakes: Iterable[_Mistake]) -> None:
        self.mistakes = list(mistakes)
        super().__init__(self.mistakes)


class _Mistakes(list[_Mistake]):
    """Mistakes collected while the walk goes on."""

    def of(self, key: str, make: Callable[..., Any], *arguments: Any) -> Any:
        """Return make(*arguments), or None and note what was wrong with it below `key`."""
        try:
            return make(*arguments)
        except _Wrong as wrong:
            self.extend(mistake.below(key) for mistake in wrong.mistakes)

    def finish(self) -> None:
        if self:
            raise _Wrong(self)


def _refuse(value: object, allowed: str) -> NoReturn:
    raise _Wrong([_Mistake("", _shown(value), allowed)])


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "{…}"  # a table in the wrong place may hold a secret
    if isinstance(value, list):
        text = "[" + ", ".join(_shown(item) for item in value) + "]"
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_VALUE_SHOWN else text[: LONGEST_VALUE_SHOWN - 1] + "…"


# --- sections


class _Section:
    """Reads one TOML table into one attrs class."""

    def __init__(self, cls: type, converter: Converter, base: Path) -> None:
        attrs.resolve_types(cls)
        self._cls = cls
        self._converter = converter
        self._base = base
        self._fields: dict[str, Any] = {field.alias: field for field in attrs.fields(cls) if field.init}
        self._secret_files = {f"{key}_file": key for key, field in self._fields.items() if field.metadata.get(SECRET)}

    def __call__(self, table: Any, _: object) -> Any:
        if isinstance(table, self._cls):
            return table
        if not isinstance(table, Mapping):
            _refuse(table, "a table")
        mistakes = _Mistakes()
        given = self._with_secrets(table, mistakes)
        arguments = {key: mistakes.of(key, self._value, self._fields[key], value) for key, value in given.items()}
        self._find_missing({*arguments, *(self._secret_files.get(key) for key in table)}, mistakes)
        mistakes.finish()
        defaults = {key: field.default for key, field in self._fields.items() if key not in arguments}
        arguments |= {key: _anchored(value, self._base) for key, value in defaults.items() if _is_anchored(value)}
        try:
            return self._cls(**arguments)
        except (ValueError, ExceptionGroup) as error:  # a rule between values
            raise _Wrong(_between_values(error)) from None

    def _with_secrets(self, table: Mapping[str, Any], mistakes: _Mistakes) -> dict[str, Any]:
        given = {}
        for key, value in table.items():
            if key in self._fields:
                given[key] = value
            elif key not in self._secret_files:
                mistakes.append(self._unknown(key))
            elif (target := self._secret_files[key]) in table:
                mistakes.append(_Mistake(key, "", f"is given beside {target}; allowed: one of them"))
            elif (text := mistakes.of(key, self._read_secret, value)) is not None:
                given[target] = text
        return given

    def _read_secret(self, value: Any) -> str:
        path = self._base / self._converter.structure(value, str)
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            _refuse(value, f"a readable text file ({getattr(error, 'strerror', None) or 'not UTF-8'})")

    def _value(self, field: Any, value: Any) -> Any:
        try:
            structured = self._converter.structure(value, field.type)
            if field.validator is not None:
                _validate(field, structured, value)
        except _Wrong as wrong:
            if not field.metadata.get(SECRET):
                raise
            raise _Wrong(attrs.evolve(mistake, value=HIDDEN) for mistake in wrong.mistakes) from None
        return structured

    def _unknown(self, key: str) -> _Mistake:
        close = get_close_matches(key, [*self._fields, *self._secret_files], n=1, cutoff=0.5)
        known = f"did you mean {close[0]}?" if close else "known here: " + ", ".join(sorted(self._fields))
        return _Mistake(key, "", f"unknown key; {known}")

    def _find_missing(self, present: set[str | None], mistakes: _Mistakes) -> None:
        for key, field in self._fields.items():
            if key not in present and field.default is attrs.NOTHING:
                mistakes.append(_Mistake(key, "", f"is missing; allowed: {_described(field.type)}"))


def _is_anchored(default: object) -> bool:
    return isinstance(default, Path) or attrs.has(type(default))


def _anchored(default: Any, base: Path) -> Any:
    """Return a default with its relative paths starting where those of the file do."""
    if isinstance(default, Path):
        return base / default
    values = {field.alias: getattr(default, field.name) for field in attrs.fields(type(default)) if field.init}
    changes = {key: _anchored(value, base) for key, value in values.items() if _is_anchored(value)}
    return attrs.evolve(default, **changes) if changes else default


def _validate(field: Any, structured: Any, value: object) -> None:
    try:
        field.validator(None, field, structured)
    except NotAllowed as error:
        _refuse(value, error.allowed)
    except (ValueError, TypeError) as error:  # attrs' own validators: the sentence is the first argument
        _refuse(value, ATTRS_SENTENCE.sub(r"\1", str(error.args[0] if error.args else error)))


def _between_values(error: Exception) -> list[_Mistake]:
    if isinstance(error, ExceptionGroup):
        return [mistake for each in error.exceptions for mistake in _between_values(each)]
    if not isinstance(error, NotAllowed):
        return [_Mistake("", "", str(error))]
    if error.value is None:
        return [_Mistake(error.key, "", error.allowed)]
    return [_Mistake(error.key, _shown(error.value), error.allowed)]


# --- single values


def _converter(base: Path) -> Converter:
    converter = Converter()
    converter.register_structure_hook(bool, _exactly(bool))
    converter.register_structure_hook(int, _exactly(int))
    converter.register_structure_hook(str, _exactly(str))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(Path, lambda value, _: base / converter.structure(value, str))
    converter.register_structure_hook_func(_is_literal, _literal)
    converter.register_structure_hook_func(_is_enum, _enum)
    converter.register_structure_hook_func(_is_sequence, lambda value, kind: _sequence(converter, value, kind))
    converter.register_structure_hook_func(_is_mapping, lambda value, kind: _mapping(converter, value, kind))
    converter.register_structure_hook_factory(attrs.has, lambda cls: _Section(cls, converter, base))
    return converter


def _exactly(kind: type) -> Callable[[Any, Any], Any]:
    def structure(value: Any, _: object) -> Any:
        if type(value) is not kind:  # true is no whole number here, though Python says so
            _refuse(value, _described(kind))
        return value

    return structure


def _number(value: Any, _: object) -> float:
    if type(value) not in (int, float):
        _refuse(value, _described(float))
    return float(value)


def _literal(value: Any, kind: Any) -> Any:
    if value not in get_args(kind):
        _refuse(value, _described(kind))
    return value


def _enum(value: Any, kind: type[Enum]) -> Enum:
    try:
        return kind(value)
    except ValueError:
        _refuse(value, _described(kind))


def _sequence(converter: Converter, value: Any, kind: Any) -> Any:
    if not isinstance(value, list):
        _refuse(value, _described(kind))
    mistakes = _Mistakes()
    item_type = get_args(kind)[0]
    items = [mistakes.of(f"[{number}]", converter.structure, item, item_type) for number, item in enumerate(value)]
    mistakes.finish()
    return get_origin(kind)(items)


def _mapping(converter: Converter, value: Any, kind: Any) -> Any:
    if not isinstance(value, dict):
        _refuse(value, "a table")
    mistakes = _Mistakes()
    item_type = get_args(kind)[1]
    result = {key: mistakes.of(key, converter.structure, item, item_type) for key, item in value.items()}
    mistakes.finish()
    return result


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _is_sequence(kind: Any) -> bool:
    return get_origin(kind) in (tuple, list, set, frozenset)


def _is_mapping(kind: Any) -> bool:
    return get_origin(kind) in (dict, Mapping)


def _described(kind: Any) -> str:
    plain: dict[Any, str] = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text in quotes",
        Path: "a path in quotes",
    }
    if kind in plain:
        return plain[kind]
    if _is_literal(kind):
        return "one of " + ", ".join(str(value) for value in get_args(kind))
    if _is_enum(kind):
        return "one of " + ", ".join(str(each.value) for each in kind)
    if _is_sequence(kind):
        return f"a list, each {_described(get_args(kind)[0])}"
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_described(each) for each in get_args(kind) if each is not type(None))
    return "a table"
