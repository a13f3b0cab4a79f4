"""Which of the tools a server offers, and what its texts may therefore say."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping, Sequence

from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.server.tool import AnyTool
from ctx_mcp.settings import ServerSettings

TOOLSETS = ("contexts", "files", "clear", "sync", "sessions", "history")
"""What `--toolsets` may name."""
_SHARED: Mapping[str, Collection[str]] = {"tasks": ("clear", "sync")}
"""Tools that belong to several toolsets and are offered with each of them."""
_OTHERWISE = "The tool for it is not offered by this server's settings; tell the user what was to be done."
_SENTENCE = re.compile(r"(?<=\.) +")
_CLAUSE = re.compile(r"(, (?:or|and|then) )")


class Offer:
    """The tools that one server offers, in their order."""

    def __init__(self, tools: Sequence[AnyTool], settings: ServerSettings) -> None:
        """Choose the tools.

        Raises:
            InvalidArgument: the settings name a toolset or tool that there is not, or leave no tool.
        """
        _refuse_unknown("toolset", "CTX_MCP_TOOLSETS", settings.toolsets, TOOLSETS)
        _refuse_unknown("tool", "CTX_MCP_TOOLS", settings.tools, [tool.name for tool in tools])
        named = [tool for tool in tools if _is_named(tool, settings)]
        self.tools = {tool.name: tool for tool in named if tool.read_only or not settings.read_only}
        self.withheld = {tool.name for tool in named} - self.tools.keys()
        """Tools that only read-only hides: their calls are refused, not unknown."""
        hidden = [tool.name for tool in tools if tool.name not in self.tools]
        self.hidden = frozenset(hidden)
        """Every tool that there is and that is not offered, for whatever reason."""
        if not self.tools:
            raise InvalidArgument(
                "the settings leave no tool to offer; see --toolsets (CTX_MCP_TOOLSETS), --tools (CTX_MCP_TOOLS) and "
                "--read-only (CTX_MCP_READ_ONLY)"
            )
        names = "|".join(map(re.escape, hidden))
        self._named_hidden = re.compile(rf"\b(?:{names})\b") if hidden else None
        self._choice = re.compile(rf"\b(?:{names}) or (?=\w+_)|(?<=\w) or (?:{names})\b") if hidden else None

    def can_say(self, text: str) -> bool:
        """Tell whether a text names no tool that is hidden."""
        return self._named_hidden is None or self._named_hidden.search(text) is None

    def next_step(self, step: str) -> str:
        """Return what to call next without the clauses that name hidden tools; never empty.

        It takes the form of the steps in `server/errors.py`: sentences, parted by semicolons, of clauses parted by
        `, or`, `, and` and `, then`.
        """
        if self._choice is None or self.can_say(step):
            return step
        kept = filter(None, map(self._sentence, _SENTENCE.split(self._choice.sub("", step))))
        text = " ".join(f"{sentence[0].upper()}{sentence[1:].rstrip('.')}." for sentence in kept)
        return text or _OTHERWISE

    def _sentence(self, sentence: str) -> str:
        # What stands behind a semicolon explains what stands before it.
        parts = itertools.takewhile(bool, map(self._statement, sentence.split("; ")))
        return "; ".join(parts)

    def _statement(self, statement: str) -> str:
        # Clauses at even places, what joins them at odd ones.
        parts = _CLAUSE.split(statement)
        kept = [place for place in range(0, len(parts), 2) if self.can_say(parts[place])]
        if not kept:
            return ""
        text = parts[kept[0]] + "".join(parts[place - 1] + parts[place] for place in kept[1:])
        # An alternative that has lost the verb it shared with the first.
        return f"Call {text}" if kept[0] and text.split("(")[0].split(" ")[0] in self.tools else text


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
