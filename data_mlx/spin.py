"""A small template language: ``[a|b|c]`` is one of the alternatives (nesting allowed, an empty one too), ``{name}``
a slot. Sentences written in it hold many independent choices, which is where the variety of the rows comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from random import Random

Slot = str | Callable[[Random], str]
# A parsed template: literal text, a slot (name), or a choice (sequences of nodes).
Node = tuple[str, object]


@cache
def parse(template: str) -> tuple[Node, ...]:
    """The nodes of ``template``.

    Raises:
        ValueError: brackets that do not match.
    """
    nodes, end = _sequence(template, 0, "")
    if end != len(template):
        raise ValueError(f"unmatched bracket at {end} in {template!r}")
    return nodes


def _sequence(text: str, start: int, stop: str) -> tuple[tuple[Node, ...], int]:
    """Nodes from ``start`` up to a character of ``stop`` or the end, and the offset reached."""
    nodes: list[Node] = []
    literal: list[str] = []
    at = start
    while at < len(text) and text[at] not in stop:
        char = text[at]
        if char not in "[{":
            if char in "]}":
                raise ValueError(f"unmatched bracket at {at} in {text!r}")
            literal.append(char)
            at += 1
            continue
        if literal:
            nodes.append(("text", "".join(literal)))
            literal = []
        if char == "{":
            close = text.index("}", at)
            nodes.append(("slot", text[at + 1 : close]))
            at = close + 1
            continue
        options: list[tuple[Node, ...]] = []
        at += 1
        while True:
            option, at = _sequence(text, at, "|]")
            options.append(option)
            if at >= len(text):
                raise ValueError(f"unclosed bracket in {text!r}")
            at += 1
            if text[at - 1] == "]":
                break
        nodes.append(("choice", tuple(options)))
    if literal:
        nodes.append(("text", "".join(literal)))
    return tuple(nodes), at


def spin(rng: Random, template: str, slots: Mapping[str, Slot]) -> str:
    """One text of ``template``; a slot that is a function is called anew at every place.

    Raises:
        KeyError: a slot of the template is missing.
    """
    return _render(rng, parse(template), slots)


def _render(rng: Random, nodes: tuple[Node, ...], slots: Mapping[str, Slot]) -> str:
    parts: list[str] = []
    for kind, value in nodes:
        if kind == "text":
            parts.append(str(value))
        elif kind == "slot":
            slot = slots[str(value)]
            parts.append(slot if isinstance(slot, str) else slot(rng))
        else:
            parts.append(_render(rng, rng.choice(value), slots))  # type: ignore[arg-type]
    return "".join(parts)


def slot_names(template: str) -> set[str]:
    """The names of all slots, also those within choices."""

    def walk(nodes: tuple[Node, ...]) -> set[str]:
        found: set[str] = set()
        for kind, value in nodes:
            if kind == "slot":
                found.add(str(value))
            elif kind == "choice":
                for option in value:  # type: ignore[attr-defined]
                    found |= walk(option)
        return found

    return walk(parse(template))
