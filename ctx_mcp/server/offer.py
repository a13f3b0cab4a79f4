"""Which of the tools a server offers, and what its texts may therefore say."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import mcp_types

from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.server.needs import Need
from ctx_mcp.server.tool import AnyTool
from ctx_mcp.settings import ServerSettings
from ctx_mcp.wire.operations import OWN_CAPABILITIES, Capabilities

TOOLSETS = ("contexts", "files", "clear", "sync", "sessions", "history")
"""What `--toolsets` may name."""
_SHARED: Mapping[str, Collection[str]] = {"tasks": ("clear", "sync")}
"""Tools that belong to several toolsets and are offered with each of them."""
_OTHERWISE = "The tool for it is not offered by this server's settings; tell the user what was to be done."
_SENTENCE = re.compile(r"(?<=\.) +")
_CLAUSE = re.compile(r"(, (?:or|and|then) )")
_PART = re.compile(r"(, )")
"""What joins the parts of a description of an argument."""
_NUMBER = re.compile(r"\d+\. ")


class Offer:
    """The tools that one server offers, in their order."""

    def __init__(
        self,
        tools: Sequence[AnyTool],
        settings: ServerSettings,
        capabilities: Capabilities = OWN_CAPABILITIES,
        *,
        backend: str = "",
        may_be_empty: bool = False,
    ) -> None:
        """Choose the tools: those that the settings name and that the backend can do.

        Args:
            may_be_empty: for callers who may do less than the settings let others do.

        Raises:
            InvalidArgument: the settings name a toolset or tool that there is not, or leave no tool.
        """
        self.backend = f"the backend {backend!r}" if backend else "this backend"
        _refuse_unknown("toolset", "CTX_MCP_TOOLSETS", settings.toolsets, TOOLSETS)
        _refuse_unknown("tool", "CTX_MCP_TOOLS", settings.tools, [tool.name for tool in tools])
        named = [tool for tool in tools if _is_named(tool, settings)]
        self.lacking: Mapping[str, Need] = {
            tool.name: tool.needs for tool in named if tool.needs is not None and not tool.needs.is_met(capabilities)
        }
        """Tools that the backend cannot do, and what it lacks: their calls are answered with that."""
        possible = [tool for tool in named if tool.name not in self.lacking]
        self.tools = {tool.name: tool for tool in possible if tool.read_only or not settings.read_only}
        self.withheld = {tool.name for tool in possible} - self.tools.keys()
        """Tools that only read-only hides: their calls are refused, not unknown."""
        hidden = [tool.name for tool in tools if tool.name not in self.tools]
        self.hidden = frozenset(hidden)
        """Every tool that there is and that is not offered, for whatever reason."""
        if not self.tools and not may_be_empty:
            raise InvalidArgument(
                "the settings leave no tool to offer; see --toolsets (CTX_MCP_TOOLSETS), --tools (CTX_MCP_TOOLS) and "
                f"--read-only (CTX_MCP_READ_ONLY), and what {self.backend} can do"
            )
        names = "|".join(map(re.escape, hidden))
        self._named_hidden = re.compile(rf"\b(?:{names})\b") if hidden else None
        self._choice = re.compile(rf"\b(?:{names}) or (?=\w+_)|(?<=\w) or (?:{names})\b") if hidden else None

    def can_say(self, text: str) -> bool:
        """Tell whether a text names no tool that is hidden."""
        return self._named_hidden is None or self._named_hidden.search(text) is None

    def definition(self, tool: AnyTool) -> mcp_types.Tool:
        """Return what tools/list says of an offered tool, without what it says of hidden ones."""
        definition = tool.definition()
        fields = definition.input_schema["properties"]
        shortened = {
            name: _described(field, self._shortened(field["description"], _PART))
            for name, field in fields.items()
            if "description" in field and not self.can_say(field["description"])
        }
        schema = definition.input_schema | {"properties": fields | shortened}
        description = self._shortened(definition.description or "", _CLAUSE)
        return definition.model_copy(update={"description": description, "input_schema": schema})

    def passage(self, text: str) -> str:
        """Return lines without the sentences that name hidden tools; numbered lines are numbered anew."""
        kept: list[str] = []
        number = 0
        for line in text.split("\n"):
            mark = _NUMBER.match(line)
            said = " ".join(filter(self.can_say, _SENTENCE.split(line[mark.end() :] if mark else line)))
            number += bool(mark and said)
            if said or not line:
                kept.append(f"{number}. {said}" if mark else said)
        return "\n".join(kept)

    def next_step(self, step: str) -> str:
        """Return what to call next without the clauses that name hidden tools; never empty.

        It takes the form of the steps in `server/errors.py`: sentences, parted by semicolons, of clauses parted by
        `, or`, `, and` and `, then`.
        """
        return self._shortened(step, _CLAUSE) or _OTHERWISE

    def _shortened(self, text: str, joint: re.Pattern[str]) -> str:
        """Leave out the clauses, parted by `joint`, that name hidden tools; perhaps nothing is left."""
        if self._choice is None or self.can_say(text):
            return text
        kept = filter(
            None, (self._sentence(sentence, joint) for sentence in _SENTENCE.split(self._choice.sub("", text)))
        )
        return " ".join(f"{sentence[0].upper()}{sentence[1:].rstrip('.')}." for sentence in kept)

    def _sentence(self, sentence: str, joint: re.Pattern[str]) -> str:
        # What stands behind a semicolon explains what stands before it.
        statements = (self._statement(statement, joint) for statement in sentence.split("; "))
        return "; ".join(itertools.takewhile(bool, statements))

    def _statement(self, statement: str, joint: re.Pattern[str]) -> str:
        # Clauses at even places, what joins them at odd ones.
        parts = joint.split(statement)
        kept = [place for place in range(0, len(parts), 2) if self.can_say(parts[place])]
        if not kept:
            return ""
        text = parts[kept[0]] + "".join(parts[place - 1] + parts[place] for place in kept[1:])
        # An alternative that has lost the verb it shared with the first.
        return f"Call {text}" if kept[0] and text.split("(")[0].split(" ")[0] in self.tools else text


def _described(field: Mapping[str, Any], description: str) -> dict[str, Any]:
    rest = {key: value for key, value in field.items() if key != "description"}
    return {**rest, "description": description} if description else rest


def _is_named(tool: AnyTool, settings: ServerSettings) -> bool:
    if not settings.toolsets and not settings.tools:
        return True
    sets = _SHARED.get(tool.toolset, (tool.toolset,))
    return tool.name in settings.tools or any(name in settings.toolsets for name in sets)


def _refuse_unknown(kind: str, variable: str, names: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InvalidArgument(
            f"{variable} names {unknown[0][:100]!r}, which is no {kind}; there are {', '.join(known)}"
        )
