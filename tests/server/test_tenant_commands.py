"""`ctx-mcp keys`, `accounts` and `audit`: for whoever runs a service, on the store that its settings name."""

from __future__ import annotations

import json
import logging
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ctx_mcp.cli.main import main
from ctx_mcp.domain.api_keys import digest_of, is_api_key
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.store.files import StoredContent
from ctx_mcp.store.store import Store, open_store


class Terminal:
    """Runs commands on one store; `said` is what the last one wrote to stderr."""

    def __init__(self, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._data_dir = data_dir
        self._capsys = capsys
        self.said = ""

    def run(self, *arguments: str, code: int = 0) -> list[list[str]]:
        """Run a command that ends with `code`, and return its lines in fields."""
        assert main([*arguments, "--data-dir", str(self._data_dir)]) == code
        output, self.said = self._capsys.readouterr()
        return [line.split("\t") for line in output.splitlines()]

    def refuse(self, *arguments: str) -> str:
        """Run a command that is wrong usage, and return what is said of it."""
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--data-dir", str(self._data_dir)])
        assert ended.value.code == 2
        return self._capsys.readouterr().err


@pytest.fixture
def terminal(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> Generator[Terminal]:
    """A command logs to the stream it finds, which is gone after the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Terminal(data_dir, capsys)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def store(data_dir: Path) -> Generator[Store]:
    opened = open_store(data_dir, DEFAULT_LIMITS)
    yield opened
    opened.close()


def test_a_new_key_stands_alone_on_standard_output(terminal: Terminal, store: Store) -> None:
    ((key,),) = terminal.run("keys", "create", "anna", "--name", "laptop", "--scope", "read", "--expires", "90d")
    assert is_api_key(key)
    found = store.keys.find(digest_of(key))
    assert found is not None
    assert (found.account, found.name, sorted(found.scopes)) == ("anna", "laptop", ["read"])
    assert found.expires_at == found.created_at + timedelta(days=90)
    assert found.key_id in terminal.said
    assert key not in terminal.said


def test_keys_are_listed_rotated_and_revoked(terminal: Terminal) -> None:
    terminal.run("keys", "create", "anna")
    terminal.run("keys", "create", "ben")
    ((old, *who),) = terminal.run("keys", "list", "anna")
    assert who[:4] == ["anna", "-", "read,write", "good"]
    terminal.run("keys", "rotate", old, "--grace", "30m")
    former, new = sorted(terminal.run("keys", "list", "anna"), key=lambda row: row[-1] != "-")
    assert (former[0], new[-1]) == (old, old)
    ends_at = datetime.fromisoformat(former[6])
    assert timedelta(minutes=28) < ends_at - datetime.now(UTC) <= timedelta(minutes=30)
    terminal.run("keys", "revoke", old)
    assert "for 10 s more" in terminal.said
    assert [row[4] for row in terminal.run("keys", "list", "anna")] == ["revoked", "good"]
    assert len(terminal.run("keys", "list")) == 3
    terminal.run("keys", "revoke", "key-nobody", code=1)
    assert "[Key.NotFound]" in terminal.said


def test_quotas_are_set_one_by_one_and_taken_away(terminal: Terminal, store: Store) -> None:
    terminal.run("accounts", "set", "anna", "--max-bytes", "10K", "--max-requests-per-second", "5")
    terminal.run("accounts", "set", "anna", "--max-files", "3", "--max-requests-per-second", "none")
    now = datetime.now(UTC)
    made, _ = store.contexts.get_or_create("anna", "notes", now=now)
    store.files.write("anna", made.context_id, "/f", StoredContent("1", 2, b"12"), actor="", now=now)
    shown = {name: fields for name, *fields in terminal.run("accounts", "show", "anna")}
    assert shown["bytes"] == ["2", "10240"]
    assert shown["files"] == ["1", "3"]
    assert shown["contexts"] == ["1", "-"]
    assert shown["requests per second"] == ["-", "-"]
    terminal.run("accounts", "set", "anna", code=1)
    assert "nothing to set" in terminal.said


def test_an_account_is_suspended_and_resumed(terminal: Terminal) -> None:
    terminal.run("keys", "create", "anna")
    terminal.run("accounts", "suspend", "anna")
    assert [row[1].partition(" ")[0] for row in terminal.run("accounts", "list")] == ["suspended"]
    terminal.run("accounts", "resume", "anna")
    assert [row[:2] for row in terminal.run("accounts", "list")] == [["anna", "active"]]
    for command in ("suspend", "resume", "show"):
        terminal.run("accounts", command, "nobody", code=1)
        assert "[Account.NotFound]" in terminal.said


def test_what_these_commands_change_is_in_the_log(terminal: Terminal) -> None:
    ((key,),) = terminal.run("keys", "create", "anna")
    ((key_id, *_),) = terminal.run("keys", "list")
    terminal.run("accounts", "set", "anna", "--max-files", "3")
    terminal.run("accounts", "suspend", "anna")
    terminal.run("keys", "revoke", key_id)
    terminal.run("accounts", "set", "ben", "--max-files", "3")
    rows = terminal.run("audit", "--account", "anna")
    assert [(row[5], row[8]) for row in rows] == [
        ("CreateKey", key_id),
        ("SetQuotas", "-"),
        ("SuspendAccount", "-"),
        ("RevokeKey", key_id),
    ]
    assert {(row[1], row[9]) for row in rows} == {("anna", "ok")}
    assert key not in repr(rows)
    assert len(terminal.run("audit")) == 5
    assert [row[5] for row in terminal.run("audit", "--limit", "1")] == ["SetQuotas"]
    ((line,),) = terminal.run("audit", "--since", "1h", "--limit", "1", "--json")
    entry = json.loads(line)
    assert (entry["account"], entry["operation"], entry["outcome"]) == ("ben", "SetQuotas", "ok")
    assert datetime.fromisoformat(entry["recorded_at"]).tzinfo is not None
    assert terminal.run("audit", "--since", "2100-01-01T00:00:00Z") == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("keys",), "ACTION"),
        (("keys", "create", "anna", "--scope", "all"), "allowed are read, write, admin"),
        (("keys", "create", "anna", "--expires", "soon"), "30m, 24h or 90d"),
        (("accounts", "set", "anna", "--max-bytes", "-1"), "argument"),
        (("accounts", "set", "anna", "--max-files", "0"), "no number above 0"),
        (("accounts", "set", "anna", "--max-contexts", "1K"), "no number above 0"),
        (("audit", "--since", "yesterday"), "as 24h"),
    ],
    ids=str,
)
def test_what_cannot_be_is_said_with_what_can(terminal: Terminal, arguments: tuple[str, ...], said: str) -> None:
    assert said in terminal.refuse(*arguments)


@pytest.mark.parametrize("name", ["", " anna", "an\tna", "a" * 256])
def test_an_account_has_a_name_that_can_be_shown(terminal: Terminal, name: str) -> None:
    terminal.run("keys", "create", name, code=1)
    assert "[Argument.Invalid]" in terminal.said
    terminal.run("keys", "create", "anna", "--name", "a\tkey", code=1)
    assert "[Argument.Invalid]" in terminal.said
    assert terminal.run("accounts", "list") == []


def test_a_backend_that_is_set_for_the_server_concerns_none_of_them(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CTX_MCP_BACKEND", "agb")
    terminal.run("keys", "create", "anna")
    terminal.run("keys", "list", "--backend", "agb", code=1)
    assert "keys uses no backend" in terminal.said
