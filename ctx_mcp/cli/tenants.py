"""`ctx-mcp keys`, `accounts` and `audit`: for whoever runs a service, on the store that its settings name.

They work beside running services, which go by what is changed here within seconds. Where the settings name a service,
they work through it, for one account: `ctx_mcp.cli.own_account`.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from ctx_mcp.cli.tenant_output import (
    say,
    show_entries,
    show_keys,
    show_line,
    show_new,
    show_revoked,
    show_rotated,
    show_status,
    state_of,
)
from ctx_mcp.cli.tenant_parser import NO_LIMIT
from ctx_mcp.domain.accounts import Account, AccountStatus, AuditEntry, Quotas
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
    action: str | None = getattr(options, "action", None)
    if account is None and (options.command, action) in _OF_ONE_ACCOUNT:
        raise InvalidArgument(f"which account? give its name: ctx-mcp {options.command} {action} NAME")
    if account is not None and not _is_account(account):
        raise InvalidArgument(f"an account's name has 1 to {_MAX_ACCOUNT_CHARS} characters that can be shown")
    if not getattr(options, "name", "").isprintable():
        raise InvalidArgument("a key's name has characters that can be shown only")
    if getattr(options, "leave_no_admin", False):
        raise InvalidArgument("--leave-no-admin is asked for by a service alone; leave it out")
    command = _COMMANDS[options.command, action]
    limits = Limits(max_file_bytes=settings.max_file_bytes)
    with closing(open_store(settings.data_dir, limits, settings.database_url)) as store:
        command(store, options)
    return 0


def _create_key(store: Store, options: argparse.Namespace) -> None:
    with _recorded("CreateKey", options.account):
        made = store.keys.create(
            options.account, name=options.name, scopes=options.scopes, lifetime=options.lifetime, now=_now()
        )
    show_new(made)


def _rotate_key(store: Store, options: argparse.Namespace) -> None:
    with _recorded("RotateKey"):
        made = store.keys.rotate(options.key_id, grace=options.grace, now=_now())
    show_rotated(made, options.grace)


def _revoke_key(store: Store, options: argparse.Namespace) -> None:
    with _recorded("RevokeKey"):
        key = store.keys.revoke(options.key_id, now=_now())
    show_revoked(key)


def _list_keys(store: Store, options: argparse.Namespace) -> None:
    show_keys(store.keys.list(options.account), _now())


def _list_accounts(store: Store, _: argparse.Namespace) -> None:
    for account in store.accounts.list():
        show_line(account.name, state_of(account.suspended_at), to_iso(account.created_at))


def _show_account(store: Store, options: argparse.Namespace) -> None:
    account = _found(store, options.account)
    used = store.accounts.usage(account.name)
    show_status(AccountStatus(account.name, account.created_at, account.suspended_at, account.quotas, used))


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
    say(f"the account {options.account!r} is suspended; a running service answers it for 10 s more")


def _resume(store: Store, options: argparse.Namespace) -> None:
    with _recorded("ResumeAccount", options.account):
        store.accounts.set_suspended(options.account, is_suspended=False, now=_now())
    say(f"the account {options.account!r} is answered again, by a running service within 10 s")


def _show_audit(store: Store, options: argparse.Namespace) -> None:
    entries = store.audit.page(options.account, since=options.since, limit=options.limit)
    show_entries(entries, as_json=options.json)


def _found(store: Store, name: str) -> Account:
    account = store.accounts.find(name)
    if account is None:
        raise AccountNotFound(f"there is no account {name!r}; ctx-mcp accounts list shows those there are")
    return account


def _is_account(name: str) -> bool:
    return 0 < len(name) <= _MAX_ACCOUNT_CHARS and name == name.strip() and name.isprintable()


@contextmanager
def _recorded(operation: str, account: str = "") -> Generator[None]:
    with recording(AuditEntry(_now(), account, None, f"ctx-mcp on {platform.node()}", new_request_id(), operation)):
        yield


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
_OF_ONE_ACCOUNT = (("keys", "create"), ("accounts", "show"))
"""Commands that name the account they are for; through a service it is the one of the key."""
