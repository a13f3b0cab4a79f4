"""`ctx-mcp keys`, `accounts show` and `audit` through a service: for the account of the key that it is called with."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable

from ctx_mcp.cli.backend import run_alone
from ctx_mcp.cli.tenant_output import show_entries, show_keys, show_new, show_revoked, show_rotated, show_status
from ctx_mcp.client.account import AsyncOwnAccount
from ctx_mcp.client.transport import acting_for
from ctx_mcp.connect import open_transport
from ctx_mcp.domain.accounts import AuditEntry
from ctx_mcp.domain.errors import AccessDenied, UnsupportedOperation
from ctx_mcp.settings import Settings

_PAGE = 1000
Command = Callable[[AsyncOwnAccount, argparse.Namespace], Awaitable[None]]


def run_own_account(settings: Settings, options: argparse.Namespace) -> int:
    """Run one command through the service that the settings name.

    Raises:
        UnsupportedOperation: only whoever runs the service may do this.
        AccessDenied: it names another account than the key's.
        AGBError: why it failed.
    """
    action: str | None = getattr(options, "action", None)
    command = _COMMANDS.get((options.command, action))
    if command is None:
        raise UnsupportedOperation(
            f"ctx-mcp {options.command} {action} is for whoever runs the service, and works on its store: give "
            "--backend embedded there; through a service there are keys, audit and accounts show"
        )

    async def work() -> None:
        async with open_transport(settings) as transport:
            with acting_for(f"ctx-mcp {options.command}"):
                account = AsyncOwnAccount(transport)
                await _demand_own(account, getattr(options, "account", None))
                await command(account, options)

    run_alone(work)
    return 0


async def _demand_own(account: AsyncOwnAccount, name: str | None) -> None:
    """Refuse the name of another account, which would be passed over."""
    if name is None:
        return
    own = (await account.get()).name
    if name != own:
        raise AccessDenied(
            f"the key in use belongs to the account {own!r}, and manages no other one; give {own!r} or no name. Other "
            "accounts are managed by their own keys, or by whoever runs the service, at its store"
        )


async def _create_key(account: AsyncOwnAccount, options: argparse.Namespace) -> None:
    show_new(await account.create_key(name=options.name, scopes=options.scopes, lifetime=options.lifetime))


async def _rotate_key(account: AsyncOwnAccount, options: argparse.Namespace) -> None:
    show_rotated(await account.rotate_key(options.key_id, grace=options.grace), options.grace)


async def _revoke_key(account: AsyncOwnAccount, options: argparse.Namespace) -> None:
    show_revoked(await account.revoke_key(options.key_id, leave_no_admin=options.leave_no_admin))


async def _list_keys(account: AsyncOwnAccount, _: argparse.Namespace) -> None:
    token: str | None = None
    while True:
        page = await account.list_keys(max_results=_PAGE, next_token=token)
        show_keys(page.keys, page.as_of)
        token = page.next_token
        if token is None:
            return


async def _show_account(account: AsyncOwnAccount, _: argparse.Namespace) -> None:
    show_status(await account.get())


async def _show_audit(account: AsyncOwnAccount, options: argparse.Namespace) -> None:
    newest: list[AuditEntry] = []
    token: str | None = None
    while True:
        most = min(_PAGE, options.limit - len(newest))
        page = await account.list_audit_entries(since=options.since, max_results=most, next_token=token)
        newest += page.entries
        token = page.next_token
        if token is None or len(newest) >= options.limit:
            show_entries(reversed(newest), as_json=options.json)
            return


_COMMANDS: dict[tuple[str, str | None], Command] = {
    ("keys", "create"): _create_key,
    ("keys", "list"): _list_keys,
    ("keys", "rotate"): _rotate_key,
    ("keys", "revoke"): _revoke_key,
    ("accounts", "show"): _show_account,
    ("audit", None): _show_audit,
}
