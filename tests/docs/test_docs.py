"""The pages are true: examples run, catalogues are complete in both directions, links lead somewhere."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import tomllib
from pathlib import Path
from typing import Any, cast

import pytest

from ctx_mcp.cli.parser import build_parser
from ctx_mcp.connect import open_transport
from ctx_mcp.domain.error_codes import errors_by_code
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.server.errors import NEXT_STEP
from ctx_mcp.server.needs import NEEDS
from ctx_mcp.server.tools import TOOLS
from ctx_mcp.settings import VARIABLES, Settings
from ctx_mcp.store.schema import SCHEMA_REVISION, metadata
from ctx_mcp.wire.operations import OPERATIONS, Capabilities

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
ADRS = sorted((DOCS / "adr").glob("*.md"))
SOURCES = sorted([*(ROOT / "ctx_mcp").rglob("*.py"), ROOT / "pyproject.toml"])
README = (ROOT / "README.md").read_text("utf-8")
ERRORS = {code: error for code, error in errors_by_code().items() if error.__module__ == "ctx_mcp.domain.errors"}
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_NAMED_FILE = re.compile(
    r"(?<![\w./])((?:ctx_mcp|tests|docs|tools|benchmarks|\.ci)/[\w./-]*(?:\.\w+|/|/run))(?![\w*<…])"
)
_ADR = re.compile(r"(?:adr/|ADR )(\d{4})")
MAX_ADR_LINES = 60


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def blocks(text: str, language: str) -> list[str]:
    return [body for found, body in _FENCE.findall(text) if found == language]


def prose(path: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", path.read_text("utf-8"))


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of every table row of a page, heads and rules left out."""
    rows = [line.strip().strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows]


def section(text: str, heading: str) -> str:
    """Return what stands between a heading and the next one of any level."""
    match = re.search(rf"^#+ {re.escape(heading)}$\n(.*?)(?=^#+ |\Z)", text, re.DOTALL | re.MULTILINE)
    assert match is not None, f"no heading {heading!r}"
    return match[1]


def _actions(parser: argparse.ArgumentParser) -> list[tuple[list[str], dict[str, argparse.ArgumentParser]]]:
    """Return what a parser takes: the flags of each of its arguments, and the commands it leads to."""
    return [
        (action.option_strings, action.choices if action.nargs == argparse.PARSER else {})
        for action in cast("list[Any]", cast("Any", parser)._actions)
    ]


def flags(parser: argparse.ArgumentParser) -> set[str]:
    """Return every flag, however deep the command."""
    found: set[str] = set()
    for option_strings, children in _actions(parser):
        found.update(option_strings, *(flags(child) for child in children.values()))
    return found


def commands() -> set[str]:
    return {name for _, children in _actions(build_parser()) for name in children}


@pytest.mark.parametrize("example", range(len(blocks(README, "python"))))
def test_the_readmes_python_runs_and_prints_what_it_says(
    example: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CTX_MCP_DATA_DIR", str(tmp_path / "data"))
    code = blocks(README, "python")[example]
    exec(compile(code, f"README.md, python block {example + 1}", "exec"), {"__name__": "__main__"})
    said = re.findall(r"# prints (.+)$", code, re.MULTILINE)
    assert said
    assert capsys.readouterr().out.splitlines() == said


def test_the_readme_has_a_sync_and_an_async_example() -> None:
    together = "".join(blocks(README, "python"))
    assert "with Client()" in together
    assert "async with AsyncClient()" in together


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_json_in_pages_parses(path: Path) -> None:
    for block in blocks(path.read_text("utf-8"), "json"):
        json.loads(block)


def test_every_host_configuration_starts_the_server() -> None:
    servers = [
        server
        for block in blocks(README, "json")
        for key, table in json.loads(block).items()
        if key in ("mcpServers", "servers")
        for server in table.values()
    ]
    assert len(servers) >= 4
    checkout = ["run", "--directory", "/path/to/ctx-mcp", "ctx-mcp"]
    assert all((server["command"], server["args"]) in (("uvx", ["ctx-mcp"]), ("uv", checkout)) for server in servers)
    assert {name for server in servers for name in server.get("env", {})} <= set(VARIABLES)


def test_the_readme_has_the_two_commands_and_the_registrys_name() -> None:
    assert "pip install uv && uv run --no-dev ctx-mcp demo\n" in README
    assert "uv run pytest -n 2\n" in README
    assert re.search(r"<!--[^>]*\bmcp-name: io\.github\.ctx-mcp/ctx-mcp\b[^>]*-->", README)


def test_the_readme_lists_every_tool_in_order() -> None:
    between = README.partition("<!-- tools:begin -->")[2].partition("<!-- tools:end -->")[0]
    rows = [row for row in table_rows(between) if row[0] != "tool"]
    effects = {(True, False): "read", (False, False): "write", (False, True): "destructive"}
    assert rows == [[f"`{tool.name}`", effects[tool.read_only, tool.destructive], tool.description] for tool in TOOLS]
    assert f"{len(TOOLS)} typed tools" in README


def test_the_readme_says_the_limits_as_they_are() -> None:
    limits = section(README, "Limits")
    for number in (
        f"1 to {DEFAULT_LIMITS.max_name_chars} characters",
        f"{DEFAULT_LIMITS.max_path_bytes} bytes of UTF-8, {DEFAULT_LIMITS.max_segment_bytes} for each",
        f"{DEFAULT_LIMITS.max_file_bytes >> 30} GiB",
        f"{DEFAULT_LIMITS.max_write_bytes >> 20} MiB in one call",
        f"{DEFAULT_LIMITS.default_list_count} by default, {DEFAULT_LIMITS.max_list_count} at most",
        f"{DEFAULT_LIMITS.default_page_size} by default",
        f"{DEFAULT_LIMITS.max_page_size:,} in the client",
        f"valid for {DEFAULT_LIMITS.url_ttl_s} s",
    ):
        assert number in limits
    assert DEFAULT_LIMITS.max_read_bytes == DEFAULT_LIMITS.max_write_bytes
    assert f"at least {DEFAULT_LIMITS.retention_s // 86_400} days" in section(README, "What is kept, and for how long")
    assert f"at most {DEFAULT_LIMITS.max_inline_bytes:,} of them" in page("storage.md")


def test_every_variable_is_documented_and_no_other() -> None:
    described = {row[0].strip("`") for row in table_rows(section(page("settings.md"), "Variables"))} - {"variable"}
    assert described == set(VARIABLES)
    assert set(re.findall(r"CTX_MCP_\w+", "".join(path.read_text("utf-8") for path in PAGES))) <= set(VARIABLES)


def test_every_flag_is_documented_and_no_other() -> None:
    described = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*|-[hr])(?![\w-])", page("settings.md")))
    assert described == flags(build_parser())


def test_every_command_is_documented_and_no_other() -> None:
    rows = table_rows(section(page("settings.md"), "Commands"))
    described = {word for row in rows for word in re.findall(r"^`ctx-mcp (\w+)", row[0])}
    assert described == commands()
    shown = "".join(blocks(README, "sh"))
    assert set(re.findall(r"(?:^|run |\" )ctx-mcp ([a-z]+)", shown, re.MULTILINE)) <= commands()


def test_every_error_code_is_in_the_catalogue_and_no_other() -> None:
    rows = [row for row in table_rows(page("errors.md")) if row[0] != "code"]
    assert {row[0] for row in rows} == {f"`{code}`" for code in ERRORS}
    assert len(rows) == len(ERRORS)
    for code, name, status, meaning, step in rows:
        error = ERRORS[code.strip("`")]
        assert (name, status, step) == (f"`{error.__name__}`", str(error.http_status), NEXT_STEP[error.code])
        assert meaning.endswith(".")


def test_codes_named_in_pages_exist() -> None:
    areas = "|".join(sorted({code.partition(".")[0] for code in ERRORS if "." in code}))
    for path in PAGES:
        named = set(re.findall(rf"\b(?:{areas})\.[A-Z]\w+", path.read_text("utf-8")))
        assert named <= set(ERRORS), path


def test_the_stored_format_is_described_table_by_table() -> None:
    text = page("storage.md")
    assert f"revision `{SCHEMA_REVISION}`" in text
    for table in metadata.tables.values():
        rows = [row for row in table_rows(section(text, table.name)) if row[0] != "column"]
        assert [row[0].strip("`") for row in rows] == [column.name for column in table.columns], table.name
        for row, column in zip(rows, table.columns, strict=True):
            assert ("key" in row[1].split(", ")) == column.primary_key, (table.name, column.name)
            assert ("null" in row[1].split(", ")) == bool(column.nullable), (table.name, column.name)
    tables = set(re.findall(r"^### (\w+)$", text, re.MULTILINE))
    assert tables == {*metadata.tables, "alembic_version"}


def test_every_index_of_the_stored_format_is_described_and_no_other() -> None:
    indexes = {str(index.name) for table in metadata.tables.values() for index in table.indexes}
    assert set(re.findall(r"`((?:ix|uq)_\w+)`", page("storage.md"))) == indexes


def test_every_operation_of_the_native_dialect_is_described_with_its_fields() -> None:
    rows = {row[0]: row[1] for row in table_rows(section(page("service.md"), "The native dialect"))}
    assert set(rows) - {"operation"} == {f"`{operation.__name__}`" for operation in OPERATIONS}
    for operation in OPERATIONS:
        fields = {field.name for field in dataclasses.fields(operation)}
        assert set(re.findall(r"`(\w+)`", rows[f"`{operation.__name__}`"])) == fields, operation


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_inside_the_project_lead_somewhere(path: Path) -> None:
    for link in _LINK.findall(prose(path)):
        if link.startswith(("https://", "http://")):
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
            assert anchor in map(_slug, headings), link


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_files_named_in_pages_exist(path: Path) -> None:
    missing = [name for name in _NAMED_FILE.findall(prose(path)) if not (ROOT / name).exists()]
    assert missing == []


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_a_page_names_no_place_of_one_machine(path: Path) -> None:
    text = path.read_text("utf-8")
    assert re.findall(r"/(?:root|work|home/\w+|Users/\w+|tmp)/\S*", text) == []
    assert not any(line.endswith((" ", "\t")) for line in text.splitlines())


def test_pages_and_decisions_that_the_code_cites_exist() -> None:
    cited = {name for path in SOURCES for name in re.findall(r"docs/\w+\.md", path.read_text("utf-8"))}
    assert cited
    assert [name for name in sorted(cited) if not (ROOT / name).is_file()] == []
    numbers = {path.name[:4] for path in ADRS}
    for path in [*SOURCES, *PAGES]:
        assert set(_ADR.findall(path.read_text("utf-8"))) <= numbers, path


def test_decisions_are_numbered_without_gaps() -> None:
    assert [path.name[:4] for path in ADRS] == [f"{number:04}" for number in range(1, len(ADRS) + 1)]


@pytest.mark.parametrize("path", ADRS, ids=name_of)
def test_a_decision_is_short_and_has_its_three_parts(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.startswith(f"# {path.name[:4]}: ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert len(text.splitlines()) <= MAX_ADR_LINES


def test_every_direct_dependency_has_its_reason_and_its_bound_and_no_other() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted: dict[str, str] = {}
    for requirement in cast("list[str]", project["dependencies"]):
        name = re.split(r"[<>=]", requirement)[0]
        wanted[name] = requirement.removeprefix(name)
    described: dict[str, str] = {}
    for names, bound, reason in table_rows((DOCS / "adr" / "0009-dependencies.md").read_text("utf-8"))[1:]:
        assert reason
        described |= dict.fromkeys(names.split(", "), bound.strip("`"))
    assert described == wanted


def test_the_layers_of_the_pages_are_those_of_the_import_contract() -> None:
    contract = re.search(r"layers = \[\n(.*?)\]", (ROOT / "pyproject.toml").read_text("utf-8"), re.DOTALL)
    assert contract is not None
    layers = " > ".join(line.strip(' ",').replace("ctx_mcp.", "") for line in contract[1].splitlines())
    assert f"`{layers}`" in (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def test_the_table_of_capabilities_is_what_each_backend_says_of_itself() -> None:
    backends = (
        Settings(),
        Settings(backend="http://127.0.0.1:8766", api_key="k"),
        Settings(backend="agb", api_key="k"),
        Settings(backend="agentbay", api_key="k"),
    )
    told = [open_transport(settings).capabilities for settings in backends]
    fields = [field.name for field in dataclasses.fields(Capabilities)]
    rows = [[f"`{name}`", *("yes" if getattr(each, name) else "no" for each in told)] for name in fields]
    table = table_rows(section(page("files.md"), "On other backends"))
    assert [row[:-1] for row in table if row[0].startswith("`")] == rows
    for need in NEEDS:
        missing = next(row[-1] for row in table if row[0] == f"`{need.name}`")
        assert all(f"`{tool}`" in missing for tool in need.tools)
