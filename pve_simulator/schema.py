"""Checks parameters as Proxmox does: unknown names, types, bounds, formats.

`schema_table.json` holds the facts, by method and path: `p` the parameters (`t` type, `r` required,
`min`, `max`, `minlen`, `maxlen`, `re`, `enum`, `f` named format, `sub` property string with `dk`
its default key, `needs`), `use` a shared set of them, `check` the permission check, `user` who may
call.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from typing import Any

from .errors import bad_parameters
from .formats import FORMATS

Facts = dict[str, Any]

MISSING = "property is missing and it is not optional"
UNKNOWN = "property is not defined in schema and the schema does not allow additional properties"
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


@cache
def table() -> Facts:
    text = resources.files(__package__).joinpath("schema_table.json").read_text()
    loaded: Facts = json.loads(text)
    return loaded


@cache
def parameters_of(method_and_path: str) -> Facts | None:
    """Parameter facts of one method; None when the method has none and takes anything."""
    facts = table()["methods"].get(method_and_path)
    if facts is None:
        return None
    known: Facts = dict(facts["p"])
    if "use" in facts:
        known.update(table()["sets"][facts["use"]])
    return known


def facts_of(method_and_path: str) -> Facts:
    facts: Facts = table()["methods"].get(method_and_path, {})
    return facts


def check_parameters(method_and_path: str, given: dict[str, Any]) -> dict[str, Any]:
    """The parameters with their Proxmox types (integers and booleans become int).

    Raises a 400 whose `errors` name each faulty one.
    """
    known = parameters_of(method_and_path)
    if known is None or facts_of(method_and_path).get("open"):
        return given
    errors: dict[str, str] = {}
    result: dict[str, Any] = {}
    for name, value in given.items():
        facts = known.get(name) or _indexed(known, name)
        if facts is None:
            errors[name] = UNKNOWN
        elif value is not None:
            text = _problem(name, facts, value)
            if text is not None:
                errors[name] = text
            else:
                result[name] = _converted(facts, value)
    for name, facts in known.items():
        if facts.get("r") and given.get(name) is None and name not in errors:
            errors[name] = MISSING
    for name in result:
        facts = known.get(name) or {}
        if "needs" in facts and given.get(facts["needs"]) is None:
            errors[facts["needs"]] = f"missing property - '{name}' requires this property"
    if errors:
        raise bad_parameters(errors)
    return result


def option_facts(name: str) -> Facts | None:
    """Facts of one VM option (`net3`, `memory` …), None for what is no option."""
    known: Facts = table()["sets"]["qemu"]
    return known.get(name) or _indexed(known, name)


def _indexed(known: Facts, name: str) -> Facts | None:
    match = re.fullmatch(r"([a-z]+)(\d+)", name)
    if match is None or int(match.group(2)) > _highest_index(match.group(1)):
        return None
    facts: Facts | None = known.get(f"{match.group(1)}[n]")
    return facts


def _highest_index(prefix: str) -> int:
    return {"scsi": 30, "virtio": 15, "sata": 5, "ide": 3, "unused": 255, "serial": 3}.get(
        prefix, 31
    )


def _problem(name: str, facts: Facts, value: Any) -> str | None:
    kind = facts["t"]
    if kind == "a":
        return None
    text = _as_text(value)
    if kind == "b":
        return None if text.lower() in _TRUE | _FALSE else _mistyped("boolean", text)
    if kind == "i" and not re.fullmatch(r"-?\d+", text):
        return _mistyped("integer", text)
    if kind == "n" and not re.fullmatch(r"-?\d+(\.\d+)?", text):
        return _mistyped("number", text)
    return _format_problem(name, facts, text) or _bounds_problem(facts, text)


def _mistyped(kind: str, text: str) -> str:
    return f"type check ('{kind}') failed - got '{text}'"


def _format_problem(name: str, facts: Facts, text: str) -> str | None:
    if "sub" in facts:
        problems = check_property_string(facts["sub"], text, label=name)
        if problems:
            lines = "".join(f"{problem}\n" for problem in problems)
            return f"invalid format - format error\n{lines}"
    check = FORMATS.get(facts.get("f", ""))
    if check is not None:
        try:
            check(text)
        except ValueError as error:
            return f"invalid format - {error}\n"
    return None


def _bounds_problem(facts: Facts, text: str) -> str | None:
    if "re" in facts and not re.fullmatch(_pattern(facts["re"]), text):
        return "value does not match the regex pattern"
    if "maxlen" in facts and len(text) > facts["maxlen"]:
        return f"value may only be {facts['maxlen']} characters long"
    if "minlen" in facts and len(text) < facts["minlen"]:
        return f"value must be at least {facts['minlen']} characters long"
    if facts["t"] in "in":
        if "min" in facts and float(text) < facts["min"]:
            return f"value must have a minimum value of {facts['min']}"
        if "max" in facts and float(text) > facts["max"]:
            return f"value must have a maximum value of {facts['max']}"
    if facts.get("enum") and text not in facts["enum"]:
        choices = ", ".join(facts["enum"])
        return f"value '{text}' does not have a value in the enumeration '{choices}'"
    return None


def _pattern(perl: str) -> str:
    return perl.replace("(?^:", "(?:").replace("(?^i:", "(?i:")


def check_property_string(name: str, text: str, *, label: str) -> list[str]:
    """What is wrong with a `key=value,…` string of a named sub-format."""
    known: Facts = table()["subformats"][name]
    fields, problems = _split_properties(known, text)
    for key, value in fields:
        facts = known.get(key)
        if facts is None:
            problems.append(f"{key}: {UNKNOWN}")
            continue
        while "alias" in facts:
            facts = known[facts["alias"]]
        problem = _problem(key, facts, value)
        if problem is not None:
            problems.append(f"{key}: {problem}")
    present = {_canonical(known, key) for key, _ in fields}
    present |= {facts["key"] for key, _ in fields if (facts := known.get(key, {})).get("key")}
    for key, facts in known.items():
        if facts.get("r") and key not in present:
            problems.append(f"{key}: {MISSING}")
    return [f"{label}.{problem}" for problem in problems]


def _canonical(known: Facts, key: str) -> str:
    facts = known.get(key, {})
    return str(facts.get("alias", key))


def _split_properties(known: Facts, text: str) -> tuple[list[tuple[str, str]], list[str]]:
    default_key = next((key for key, facts in known.items() if facts.get("dk")), None)
    fields: list[tuple[str, str]] = []
    problems: list[str] = []
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if equals:
            fields.append((key.strip(), value))
        elif default_key is None:
            problems.append("value without key, but schema does not define a default key")
        else:
            fields.append((default_key, part))
    return fields, problems


def _converted(facts: Facts, value: Any) -> Any:
    kind = facts["t"]
    if kind == "a":
        return value if isinstance(value, list) else [value]
    text = _as_text(value)
    if kind == "b":
        return 1 if text.lower() in _TRUE else 0
    if kind == "i":
        return int(text)
    return text


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, list):
        return "\0".join(str(part) for part in value)
    return str(value)
