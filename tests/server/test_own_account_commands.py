"""`ctx-mcp keys`, `accounts show` and `audit` through a service: for the account of the key they are called with."""

from __future__ import annotations

import json
import logging
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from ctx_mcp.cli.main import main
from ctx_mcp.domain.access import Scope
from ctx_mcp.domain.accounts import Quotas
from ctx_mcp.domain.api_keys import digest_of, is_api_key
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.embedded import run_http_service
from ctx_mcp.settings import Settings
from ctx_mcp.store.store import Store, open_store

NOW = datetime.now(UTC)


class Terminal:
    """Runs commands as a person does who has the address of a service and a key; `said` is stderr of the last one."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.said = ""

    def run(self, *arguments: str, code: int = 0) -> list[list[str]]:
        """Run a command that ends with `code`, and return its lines in fields."""
        assert main(arguments) == code
        output, self.said = self._capsys.readouterr()
        return [line.split("\t") for line in output.splitlines()]


@pytest.fixture
def store(data_dir: Path) -> Generator[Store]:
    opened = open_store(data_dir, DEFAULT_LIMITS)
    yield opened
    opened.close()


@pytest.fixture
def admin_id(store: Store, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of the key that commands are run with, which belongs to anna."""
    made = store.keys.create("anna", name="", scopes=[Scope.ADMIN], lifetime=None, now=NOW)
    monkeypatch.setenv("CTX_MCP_API_KEY", made.text)
    return made.key.key_id


@pytest.fixture
def terminal(
    data_dir: Path,
    tmp_path: Path,
    admin_id: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Generator[Terminal]:
    """A command logs to the stream it finds, which is gone after the test."""
    monkeypatch.setenv("CTX_MCP_DATA_DIR", str(tmp_path / "elsewhere"))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    running = run_http_service(Settings(data_dir=data_dir), host="127.0.0.1", port=0)
    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(running) as url:
        monkeypatch.setenv("CTX_MCP_BACKEND", url)
        yield Terminal(capsys)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_keys_of_the_account_are_made_listed_rotated_and_revoked(
    terminal: Terminal, store: Store, admin_id: str, tmp_path: Path
) -> None:
    ((key,),) = terminal.run("keys", "create", "--name", "laptop", "--scope", "read", "--expires", "90d")
    assert is_api_key(key)
    found = store.keys.find(digest_of(key))
    assert found is not None
    assert (found.account, found.name, found.scopes) == ("anna", "laptop", {Scope.READ})
    assert found.key_id in terminal.said
    assert key not in terminal.said
    assert [row[:5] for row in terminal.run("keys", "list")] == [
        [admin_id, "anna", "-", "admin", "good"],
        [found.key_id, "anna", "laptop", "read", "good"],
    ]
    ((new,),) = terminal.run("keys", "rotate", found.key_id, "--grace", "30m")
    assert f"the key {found.key_id} ends " in terminal.said
    terminal.run("keys", "revoke", found.key_id)
    assert "for 10 s more" in terminal.said
    rows = terminal.run("keys", "list", "anna")
    assert [row[4] for row in rows] == ["good", "revoked", "good"]
    assert rows[2][-1] == found.key_id
    assert store.keys.find(digest_of(new)) is not None
    # The store of this machine was left alone.
    assert not (tmp_path / "elsewhere").exists()


def test_the_log_and_the_use_of_the_account_are_shown_as_on_the_store(
    terminal: Terminal, store: Store, admin_id: str, data_dir: Path
) -> None:
    store.accounts.put_quotas("anna", Quotas(max_files=3), now=NOW)
    for number in range(5):
        terminal.run("keys", "create", "anna", "--name", str(number))
    on_the_store = ("--backend", "embedded", "--data-dir", str(data_dir))
    for command in (
        ["accounts", "show"],
        ["audit", "--limit", "3"],
        ["audit", "--since", "1h", "--json"],
        ["audit", "--since", "2100-01-01T00:00:00Z"],
    ):
        whose = {"accounts": ["anna"], "audit": ["--account", "anna"]}[command[0]]
        there = terminal.run(*command)
        assert there == terminal.run(*command, *whose)
        assert there == terminal.run(*command, *whose, *on_the_store)
    ((line,),) = terminal.run("audit", "--limit", "1", "--json")
    entry = json.loads(line)
    assert (entry["operation"], entry["key_id"], entry["target"]) == (
        "CreateKey",
        admin_id,
        store.keys.list("anna")[-1].key_id,
    )
    assert entry["actor"].startswith("ctx-mcp keys on ")


@pytest.mark.parametrize(
    "command",
    [["keys", "create", "ben"], ["keys", "list", "ben"], ["accounts", "show", "ben"], ["audit", "--account", "ben"]],
    ids=" ".join,
)
def test_another_account_is_refused_by_its_name(terminal: Terminal, store: Store, command: list[str]) -> None:
    assert terminal.run(*command, code=1) == []
    assert "belongs to the account 'anna', and manages no other one" in terminal.said
    assert "[Auth.AccessDenied]" in terminal.said
    assert store.keys.list("ben") == []


@pytest.mark.parametrize(
    "command", [["list"], ["set", "anna", "--max-files", "1"], ["suspend", "anna"], ["resume", "anna"]], ids=" ".join
)
def test_what_the_operator_alone_may_do_is_refused(terminal: Terminal, store: Store, command: list[str]) -> None:
    before = store.accounts.list()
    assert terminal.run("accounts", *command, code=1) == []
    assert "is for whoever runs the service" in terminal.said
    assert "[Operation.Unsupported]" in terminal.said
    assert store.accounts.list() == before


def test_the_last_key_is_ended_only_with_the_flag_for_it(terminal: Terminal, store: Store, admin_id: str) -> None:
    terminal.run("keys", "revoke", admin_id, code=1)
    assert "--leave-no-admin" in terminal.said
    terminal.run("keys", "revoke", admin_id, "--leave-no-admin")
    assert [key.revoked_at is None for key in store.keys.list()] == [False]


def test_on_a_store_an_account_is_named_and_the_flag_of_services_is_not_taken(
    terminal: Terminal, data_dir: Path, admin_id: str
) -> None:
    here = ("--backend", "embedded", "--data-dir", str(data_dir))
    for command in (("keys", "create"), ("accounts", "show")):
        terminal.run(*command, *here, code=1)
        assert "which account? give its name" in terminal.said
    terminal.run("keys", "revoke", admin_id, "--leave-no-admin", *here, code=1)
    assert "is asked for by a service alone" in terminal.said
    terminal.run("keys", "revoke", admin_id, *here)


def test_a_service_without_a_key_is_not_called(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CTX_MCP_API_KEY")
    terminal.run("keys", "list", code=1)
    assert "needs an API key; set CTX_MCP_API_KEY" in terminal.said
