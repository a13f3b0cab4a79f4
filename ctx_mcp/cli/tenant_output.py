"""What `ctx-mcp keys`, `accounts` and `audit` write, whether they work on a store or through a service.

Lists come as lines of tab-separated fields, `-` for what is not set. A new key stands alone on standard output, so that
a script can take it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime, timedelta

from ctx_mcp.cli.output import write_line
from ctx_mcp.domain.access import Scope
from ctx_mcp.domain.accounts import AccountStatus, ApiKey, AuditEntry, NewApiKey
from ctx_mcp.domain.clock import to_iso


def show_new(made: NewApiKey) -> None:
    key = made.key
    until = f"until {to_iso(key.expires_at)}" if key.expires_at else "until it is revoked"
    say(f"{key.key_id} of the account {key.account!r} may {_spelled(key.scopes)} {until}; the key is shown this once:")
    write_line(made.text)


def show_rotated(made: NewApiKey, grace: timedelta) -> None:
    show_new(made)
    say(f"the key {made.key.rotated_from} ends {to_iso(made.key.created_at + grace)} at the latest")


def show_revoked(key: ApiKey) -> None:
    say(f"the key {key.key_id} of the account {key.account!r} is revoked; a running service takes it for 10 s more")


def show_keys(keys: Iterable[ApiKey], as_of: datetime) -> None:
    for key in keys:
        times = (key.created_at, key.expires_at, key.last_used_at)
        who = (key.key_id, key.account, key.name, _spelled(key.scopes), key.state(as_of))
        show_line(*who, *map(to_iso, times), key.rotated_from)


def show_status(status: AccountStatus) -> None:
    used, quotas = status.usage, status.quotas
    show_line("name", status.name)
    show_line("state", state_of(status.suspended_at))
    show_line("created", to_iso(status.created_at))
    show_line("bytes", used.size_bytes, quotas.max_bytes)
    show_line("files", used.file_count, quotas.max_files)
    show_line("contexts", used.context_count, quotas.max_contexts)
    show_line("requests per second", None, quotas.max_requests_per_s)


def show_entries(entries: Iterable[AuditEntry], *, as_json: bool) -> None:
    for entry in entries:
        if as_json:
            write_line(json.dumps({**asdict(entry), "recorded_at": entry.recorded_at.isoformat()}, ensure_ascii=False))
        else:
            what = (entry.operation, entry.context_id, entry.path, entry.target, entry.outcome)
            show_line(to_iso(entry.recorded_at), entry.account, entry.key_id, entry.actor, entry.request_id, *what)


def state_of(suspended_at: datetime | None) -> str:
    return "active" if suspended_at is None else f"suspended since {to_iso(suspended_at)}"


def show_line(*fields: object) -> None:
    write_line("\t".join("-" if field in (None, "") else str(field) for field in fields))


def say(text: str) -> None:
    sys.stderr.write(f"ctx-mcp: {text}\n")


def _spelled(scopes: frozenset[Scope]) -> str:
    return ",".join(scope for scope in Scope if scope in scopes)
