"""What can be written behind `ctx-mcp keys`, `accounts` and `audit`. Imports nothing heavy, as all of the parser."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from ctx_mcp.domain.access import Scope
from ctx_mcp.domain.clock import from_iso

NO_LIMIT = "none"
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_UNITS_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_DURATION = re.compile(r"(\d{1,5})([smhd])\Z")
_SIZE = re.compile(r"(\d{1,15})([KMGT]?)\Z")


def add_tenants(commands: Any) -> Iterable[argparse.ArgumentParser]:
    """Add the commands of whoever runs a service or manages an account of one, and return all their parsers."""
    return [*_add_keys(commands), *_add_accounts(commands), _add_audit(commands)]


def _add_keys(commands: Any) -> list[argparse.ArgumentParser]:
    keys = commands.add_parser("keys", help="list the API keys of a service, or make, rotate or revoke one")
    actions = keys.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key of an account, and the account; the key is shown this once")
    create.add_argument(
        "account", nargs="?", help="whose; through a service that of the key in use, which may be left out"
    )
    create.add_argument("--name", default="", help="what the key is for, as lists show it")
    create.add_argument(
        "--scope",
        dest="scopes",
        type=_scopes,
        default=frozenset({Scope.READ, Scope.WRITE}),
        metavar="NAMES",
        help="read, write, admin, parted by commas; each includes those before it (read,write)",
    )
    create.add_argument(
        "--expires", dest="lifetime", type=_duration, metavar="TIME", help="after how long, such as 90d (never)"
    )
    listed = actions.add_parser("list", help="list the keys of all accounts, or of one")
    listed.add_argument("account", nargs="?")
    rotate = actions.add_parser("rotate", help="make a key in another one's place, which ends soon after")
    rotate.add_argument("key_id")
    rotate.add_argument(
        "--grace",
        type=_duration,
        default=timedelta(hours=24),
        metavar="TIME",
        help="how long the former key is good yet, such as 30m (24h)",
    )
    revoke = actions.add_parser("revoke", help="end a key")
    revoke.add_argument("key_id")
    revoke.add_argument(
        "--leave-no-admin",
        action="store_true",
        help="through a service: end the key in use, though no other one of the account may manage it",
    )
    return [keys, create, listed, rotate, revoke]


def _add_accounts(commands: Any) -> list[argparse.ArgumentParser]:
    accounts = commands.add_parser("accounts", help="list the accounts of a service, or change what one may do")
    actions = accounts.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="list the accounts that have a key or a quota")
    show = actions.add_parser("show", help="show what an account may use, and does")
    show.add_argument("account", metavar="NAME", nargs="?", help="may be left out through a service")
    put = actions.add_parser("set", help="set quotas; those that are not named stay")
    put.add_argument("account", metavar="NAME")
    put.add_argument("--max-bytes", type=_byte_count, metavar="SIZE", help="such as 10G, or none")
    for unit in ("files", "contexts", "requests-per-second"):
        put.add_argument(f"--max-{unit}", type=_count, metavar="N", help="a number, or none")
    suspend = actions.add_parser("suspend", help="answer none of an account's calls")
    suspend.add_argument("account", metavar="NAME")
    resume = actions.add_parser("resume", help="answer an account's calls again")
    resume.add_argument("account", metavar="NAME")
    return [accounts, listed, show, put, suspend, resume]


def _add_audit(commands: Any) -> argparse.ArgumentParser:
    audit = commands.add_parser("audit", help="show who changed what, and who was turned away; the newest last")
    audit.add_argument("--account", metavar="NAME", help="of this account only")
    audit.add_argument("--since", type=_moment, metavar="TIME", help="such as 24h, or 2026-11-21T10:00:00Z")
    audit.add_argument("--limit", type=_positive, default=100, metavar="N", help="the newest so many (100)")
    audit.add_argument("--json", action="store_true", help="each as a JSON object")
    return audit


def _scopes(text: str) -> frozenset[Scope]:
    names = [name.strip() for name in text.split(",")]
    if not set(names) <= set(Scope):
        raise argparse.ArgumentTypeError(f"{text!r} holds a scope that is none; allowed are {', '.join(Scope)}")
    return frozenset(map(Scope, names))


def _duration(text: str) -> timedelta:
    found = _DURATION.match(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 30m, 24h or 90d")
    return timedelta(seconds=int(found[1]) * _UNITS_S[found[2]])


def _byte_count(text: str) -> int | str:
    found = _SIZE.match(text)
    if text == NO_LIMIT or found is None:
        return _count(text)
    return int(found[1]) * _UNITS_BYTES[found[2]]


def _count(text: str) -> int | str:
    return text if text == NO_LIMIT else _positive(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) < 2**53:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0 that can be")
    return int(text)


def _moment(text: str) -> datetime:
    if _DURATION.match(text):
        return datetime.now(UTC) - _duration(text)
    moment = from_iso(text)
    if moment is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a time such as 2026-11-21T10:00:00Z nor one ago, as 24h")
    return moment
