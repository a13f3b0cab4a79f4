"""`ctx-mcp keys`, `accounts` and `audit`: for whoever runs a service, on the store that its settings name.

They work beside running services, which go by what is changed here within seconds. Lists come as lines of
tab-separated fields, `-` for what is not set. A new key stands alone on standard output, so that a script can take it.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

from ctx_mcp.cli.output import write_line
from ctx_mcp.cli.tenant_parser import NO_LIMIT
from ctx_mcp.domain.access import Scope
from ctx_mcp.domain.accounts import Account, AuditEntry, NewApiKey, Quotas
from ctx_mcp.domain.clock import to_iso
from ctx_mcp.domain.errors import AccountNotFound, InvalidArgument
from ctx_mcp.domain.identity import new_request_id
from ctx_mcp.domain.limits import Limits
from ctx_mcp.settings import Settings
from ctx_mcp.store.audit import recording
from ctx_mcp.store.store import Store, open_store

_MAX_ACCOUNT_CHARS = 255
Command = Callable[[Store, argparse.Namespace], None]


def run_tenants(settings: Settings, options: argparse.Namespace) -> int:
    """Run one command.

    Raises:
        AGBError: why it failed.
    """
    account: str | None = getattr(options, "account", None)
    if account is not None and not _is_account(account):
        raise InvalidArgument(f"an account's name has 1 to {_MAX_ACCOUNT_CHARS} characters that can be shown")
    if not getattr(options, "name", "").isprintable():
        raise InvalidArgument("a key's name has characters that can be shown only")
    command = _COMMANDS[options.command, getattr(options, "action", None)]
    limits = Limits(max_file_bytes=settings.max_file_bytes)
    with closing(open_store(settings.data_dir, limits, settings.database_url)) as store:
        command(store, options)
    return 0


def _create_key(store: Store, options: argparse.Namespace) -> None:
    with _recorded("CreateKey", options.account):
        made = store.keys.create(
            options.account, name=options.name, scopes=options.scopes, lifetime=options.lifetime, now=_now()
        )
    _show_new(made)


def _rotate_key(store: Store, options: argparse.Namespace) -> None:
    grace: timedelta = options.grace
    with _recorded("RotateKey"):
        made = store.keys.rotate(options.key_id, grace=grace, now=_now())
    _show_new(made)
    _say(f"the key {options.key_id} ends {to_iso(_now() + grace)} at the latest")


def _revoke_key(store: Store, options: argparse.Namespace) -> None:
    with _recorded("RevokeKey"):
        key = store.keys.revoke(options.key_id, now=_now())
    _say(f"the key {key.key_id} of the account {key.account!r} is revoked; a running service takes it for 10 s more")


def _list_keys(store: Store, options: argparse.Namespace) -> None:
    now = _now()
    for key in store.keys.list(options.account):
        times = (key.created_at, key.expires_at, key.last_used_at)
        who = (key.key_id, key.account, key.name, _spelled(key.scopes), key.state(now))
        _line(*who, *map(to_iso, times), key.rotated_from)


def _list_accounts(store: Store, _: argparse.Namespace) -> None:
    for account in store.accounts.list():
        _line(account.name, _state(account), to_iso(account.created_at))


def _show_account(store: Store, options: argparse.Namespace) -> None:
    account = _found(store, options.account)
    used = store.accounts.usage(account.name)
    quotas = account.quotas
    _line("name", account.name)
    _line("state", _state(account))
    _line("created", to_iso(account.created_at))
    _line("bytes", used.size_bytes, quotas.max_bytes)
    _line("files", used.file_count, quotas.max_files)
    _line("contexts", used.context_count, quotas.max_contexts)
    _line("requests per second", None, quotas.max_requests_per_s)


def _set_quotas(store: Store, options: argparse.Namespace) -> None:
    given = {
        "max_bytes": options.max_bytes,
        "max_files": options.max_files,
        "max_contexts": options.max_contexts,
        "max_requests_per_s": options.max_requests_per_second,
    }
    changes = {name: None if value == NO_LIMIT else value for name, value in given.items() if value is not None}
    if not changes:
        raise InvalidArgument("nothing to set; give --max-bytes, --max-files, --max-contexts or others")
    known = store.accounts.find(options.account)
    with _recorded("SetQuotas", options.account):
        store.accounts.put_quotas(options.account, replace(known.quotas if known else Quotas(), **changes), now=_now())
    _show_account(store, options)


def _suspend(store: Store, options: argparse.Namespace) -> None:
    with _recorded("SuspendAccount", options.account):
        store.accounts.set_suspended(options.account, is_suspended=True, now=_now())
    _say(f"the account {options.account!r} is suspended; a running service answers it for 10 s more")


def _resume(store: Store, options: argparse.Namespace) -> None:
    with _recorded("ResumeAccount", options.account):
        store.accounts.set_suspended(options.account, is_suspended=False, now=_now())
    _say(f"the account {options.account!r} is answered again, by a running service within 10 s")


def _show_audit(store: Store, options: argparse.Namespace) -> None:
    for entry in store.audit.page(options.account, since=options.since, limit=options.limit):
        if options.json:
            write_line(json.dumps({**asdict(entry), "recorded_at": entry.recorded_at.isoformat()}, ensure_ascii=False))
        else:
            what = (entry.operation, entry.context_id, entry.path, entry.target, entry.outcome)
            _line(to_iso(entry.recorded_at), entry.account, entry.key_id, entry.actor, entry.request_id, *what)


def _found(store: Store, name: str) -> Account:
    account = store.accounts.find(name)
    if account is None:
        raise AccountNotFound(f"there is no account {name!r}; ctx-mcp accounts list shows those there are")
    return account


def _show_new(made: NewApiKey) -> None:
    key = made.key
    until = f"until {to_iso(key.expires_at)}" if key.expires_at else "until it is revoked"
    _say(f"{key.key_id} of the account {key.account!r} may {_spelled(key.scopes)} {until}; the key is shown this once:")
    write_line(made.text)


def _is_account(name: str) -> bool:
    return 0 < len(name) <= _MAX_ACCOUNT_CHARS and name == name.strip() and name.isprintable()


@contextmanager
def _recorded(operation: str, account: str = "") -> Generator[None]:
    with recording(AuditEntry(_now(), account, None, f"ctx-mcp on {platform.node()}", new_request_id(), operation)):
        yield


def _state(account: Account) -> str:
    return "active" if account.suspended_at is None else f"suspended since {to_iso(account.suspended_at)}"


def _spelled(scopes: frozenset[Scope]) -> str:
    return ",".join(scope for scope in Scope if scope in scopes)


def _line(*fields: object) -> None:
    write_line("\t".join("-" if field in (None, "") else str(field) for field in fields))


def _say(text: str) -> None:
    sys.stderr.write(f"ctx-mcp: {text}\n")


def _now() -> datetime:
    return datetime.now(UTC)


_COMMANDS: dict[tuple[str, str | None], Command] = {
    ("keys", "create"): _create_key,
    ("keys", "list"): _list_keys,
    ("keys", "rotate"): _rotate_key,
    ("keys", "revoke"): _revoke_key,
    ("accounts", "list"): _list_accounts,
    ("accounts", "show"): _show_account,
    ("accounts", "set"): _set_quotas,
    ("accounts", "suspend"): _suspend,
    ("accounts", "resume"): _resume,
    ("audit", None): _show_audit,
}
