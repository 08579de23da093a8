"""Spares a command line the conversion of what has its type already.

Typer converts every value by pydantic, which it loads for the first one: longer than all else that most commands do.
What was left out, a default and a plain word need no conversion. Deliberately left out: every other value, which Typer
converts as ever.
"""

from __future__ import annotations

from typing import Any  # Any: a value of a command line is of whatever type its parameter says

from typer import BadParameter
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

Parameter = TyperArgument | TyperOption


class Command(TyperCommand):
    """A verb."""

    def get_params(self, ctx: Any) -> list[Any]:  # Any: Typer's own class of contexts is not public
        return _spare(super().get_params(ctx))


class Group(TyperGroup):
    """Several verbs."""

    def get_params(self, ctx: Any) -> list[Any]:  # Any: Typer's own class of contexts is not public
        return _spare(super().get_params(ctx))


def _spare(params: list[Any]) -> list[Any]:
    for param in params:
        if isinstance(param, Parameter) and not isinstance(param.get_runtime_param, Conversion):
            param.get_runtime_param = Conversion(param)  # type: ignore[assignment]  # where Typer asks for it
    return params


class Conversion:
    """Stands where Typer asks a parameter for its conversion, and is that conversion."""

    def __init__(self, param: Parameter) -> None:
        self._typers_own = param.get_runtime_param
        self._kind = param.type_descriptor.annotation

    def __call__(self) -> Conversion:
        return self

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value as its parameter's type; `ctx` is for the words of an error."""
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if type(value) is self._kind:  # a plain word, or the default of a choice
            return value
        if self._kind == list[str] and isinstance(value, list | tuple) and all(type(word) is str for word in value):
            return list(value)
        try:
            return self._typers_own().coerce(value, param=param, ctx=ctx)
        except BadParameter as error:  # which does not name the value
            error.message = error.message.replace("Input", f"`{value}`", 1).partition(", unable to parse")[0]
            raise
