"""Reads the signatures and docstrings of a stage's component and `run` from their source, without importing them."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from docstring_parser import Docstring, DocstringStyle, parse


@dataclass(frozen=True)
class Parameter:
    """One artifact that a component takes or makes.

    Attributes:
        name: The parameter's name; of an input, the stage that made it.
        kind: `Dataset` or `Model`.
        optional: Whether it may be left out.
        description: From the docstring's `Args`.
    """

    name: str
    kind: str
    optional: bool
    description: str


@dataclass(frozen=True)
class ComponentSignature:
    """The face that a component shows to KFP."""

    summary: str
    inputs: tuple[Parameter, ...]
    output: Parameter


def read_component(path: Path, name: str) -> ComponentSignature:
    """The signature of the component function `name` in a `component.py`."""
    function = _function(path, name)
    docstring = _docstring(function)
    described = {parameter.arg_name: parameter.description or "" for parameter in docstring.params}
    arguments = function.args.args
    first_optional = len(arguments) - len(function.args.defaults)
    found: dict[str, list[Parameter]] = {"Input": [], "Output": []}
    for at, argument in enumerate(arguments):
        direction, kind = _artifact(argument.annotation)
        if direction in found:
            found[direction].append(Parameter(argument.arg, kind, at >= first_optional, described[argument.arg]))
    [output] = found["Output"]
    return ComponentSignature(docstring.short_description or "", tuple(found["Input"]), output)


def read_run(path: Path) -> Docstring:
    """The docstring of `run` in a `stage.py`."""
    return _docstring(_function(path, "run"))


def _function(path: Path, name: str) -> ast.FunctionDef:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    raise ValueError(f"{path} defines no function {name}")


def _docstring(function: ast.FunctionDef) -> Docstring:
    return parse(ast.get_docstring(function) or "", style=DocstringStyle.GOOGLE)


def _artifact(annotation: ast.expr | None) -> tuple[str, str]:
    """`dsl.Input[dsl.Dataset]` as (`Input`, `Dataset`); two empty strings for anything else."""
    match annotation:
        case ast.Subscript(value=ast.Attribute(attr=direction), slice=ast.Attribute(attr=kind)):
            return direction, kind
    return "", ""
