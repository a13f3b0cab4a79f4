"""`ctx-mcp`: without a command the MCP server on stdio, which is what hosts launch."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from ctx_mcp.cli.output import READER_LEFT, ReaderLeft, flush, speak_utf8
from ctx_mcp.cli.parser import SERVER_OPTIONS, parse
from ctx_mcp.domain.errors import AGBError, InvalidArgument
from ctx_mcp.settings import EMBEDDED, ServerSettings, Settings, load_server_settings, load_settings, read_setting
from ctx_mcp.telemetry.logs import log_to_stderr

_SERVERS = (None, "serve")
_TENANTS = ("keys", "accounts", "audit")
_WITHOUT_BACKEND = ("service", "contracts", "backup", "restored", "verify", *_TENANTS)
"""Commands that no backend can serve, so that one set for the MCP server does not concern them; but a service of ours
can serve `_TENANTS`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong usage."""
    speak_utf8()
    try:
        try:
            options = parse(arguments)
            settings = _settings(options)
            log_to_stderr(settings.log_level, settings.telemetry.log_format)
            return _run(options, settings, _server_settings(options))
        finally:
            flush()
    except ReaderLeft:
        return READER_LEFT
    except AGBError as error:
        sys.stderr.write(f"ctx-mcp: {error.message} [{error.error_code}]\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _settings(options: argparse.Namespace) -> Settings:
    if options.command in _WITHOUT_BACKEND and options.allowed_dirs is not None:
        raise InvalidArgument(f"{options.command} syncs no folder; leave --allow-dir out")
    return load_settings(
        backend=_backend(options),
        endpoint=options.endpoint,
        data_dir=options.data_dir,
        allowed_dirs=options.allowed_dirs,
        public_url=getattr(options, "public_url", None),
        tls_cert=getattr(options, "tls_cert", None),
        tls_key=getattr(options, "tls_key", None),
        log_level=options.log_level,
    )


def _backend(options: argparse.Namespace) -> str | None:
    """Return the backend that a command works on; None: what the settings say.

    Raises:
        InvalidArgument: one was given that the command cannot use.
    """
    backend: str | None = options.backend
    if options.command not in _WITHOUT_BACKEND:
        return backend
    if options.command in _TENANTS:
        named = read_setting("CTX_MCP_BACKEND") if backend is None else backend.strip()
        if named is not None and _is_service(named):
            return named
    if backend is not None and backend.strip() not in ("", EMBEDDED):
        or_url = " but the URL of a context service" if options.command in _TENANTS else ""
        raise InvalidArgument(f"{options.command} uses no backend{or_url}; leave --backend out")
    return EMBEDDED


def _is_service(backend: str) -> bool:
    """Tell whether a backend is a context service of ours, which is named by its URL."""
    return backend.startswith(("http://", "https://"))


def _server_settings(options: argparse.Namespace) -> ServerSettings:
    """Return what the MCP server offers; other commands are not concerned by its variables, and have none of its flags.

    Raises:
        InvalidArgument: a flag before a command that it says nothing to, or a value that cannot be.
    """
    given = {name: getattr(options, name) for name in SERVER_OPTIONS if getattr(options, name)}
    if more := getattr(options, "more_read_only_contexts", None):
        given["read_only_contexts"] = [*given.get("read_only_contexts", ()), *more]
    if options.command in _SERVERS:
        return load_server_settings(**given, stateless=getattr(options, "stateless", None))
    if given:
        raise InvalidArgument(f"{SERVER_OPTIONS[next(iter(given))]} belongs to the MCP server; leave it out")
    return ServerSettings()


def _run(options: argparse.Namespace, settings: Settings, offered: ServerSettings) -> int:
    command: str | None = options.command
    if command is None:
        with _not_collecting():
            from ctx_mcp.cli.serve import serve_stdio

        return serve_stdio(settings, offered)
    if command == "serve":
        with _not_collecting():
            from ctx_mcp.cli.serve import serve

        return serve(settings, offered, transport=options.transport, host=options.host, port=options.port)
    if command == "service" and options.migrate:
        from ctx_mcp.cli.migrate import run_migration

        return run_migration(settings)
    if command == "service":
        from ctx_mcp.cli.service import run_service

        return run_service(settings, host=options.host, port=options.port)
    if command == "demo":
        from ctx_mcp.cli.demo import run_demo

        return run_demo(settings, folder=options.folder, data_dir_given=options.data_dir is not None)
    if command == "contracts":
        from ctx_mcp.cli.contracts import run_contracts

        return run_contracts(check=options.check)
    if command in ("backup", "restored", "verify"):
        from ctx_mcp.cli import upkeep

        if command == "backup":
            return upkeep.run_backup(settings, options.folder)
        if command == "restored":
            return upkeep.run_restored(settings)
        return upkeep.run_verify(settings, reads_bytes=options.digests)
    if command == "sync":
        from ctx_mcp.cli.sync import run_sync

        return run_sync(settings, options)
    if command in _TENANTS and _is_service(settings.backend):
        from ctx_mcp.cli.own_account import run_own_account

        return run_own_account(settings, options)
    if command in _TENANTS:
        from ctx_mcp.cli.tenants import run_tenants

        return run_tenants(settings, options)
    from ctx_mcp.cli.people import run_command

    return run_command(settings, options)


@contextmanager
def _not_collecting() -> Generator[None]:
    """Import the servers without looking for garbage meanwhile.

    The protocol's classes are half a million objects that all stay: collecting costs a tenth of the start.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
    gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
