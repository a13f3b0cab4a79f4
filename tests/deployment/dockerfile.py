"""What stands in docker/Dockerfile, as far as tests ask for it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker" / "Dockerfile").read_text("utf-8")


@dataclass
class Stage:
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def all(self, name: str) -> list[str]:
        return [text for found, text in self.instructions if found == name]

    def last(self, name: str) -> str:
        return self.all(name)[-1]

    def command(self, name: str) -> list[str]:
        """Return an instruction's command; in any but the exec form it would run below a shell."""
        words: list[str] = json.loads(self.last(name))
        return words


def read_stages() -> list[Stage]:
    """Return the stages with their instructions, lines that go on joined."""
    text = re.sub(r"^\s*#.*\n", "", TEXT, flags=re.MULTILINE)
    stages: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        name, _, rest = line.strip().partition(" ")
        if name == "FROM":
            stages.append(Stage(rest.partition(" AS ")[0]))
        elif stages and name:
            stages[-1].instructions.append((name, rest.strip()))
    return stages
