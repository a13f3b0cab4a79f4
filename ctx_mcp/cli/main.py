"""`ctx-mcp`: without a command the MCP server on stdio, which is what hosts launch."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from ctx_mcp import __version__
from ctx_mcp.domain.errors import AGBError
from ctx_mcp.settings import Settings, load_settings

_DESCRIPTION = "Durable contexts for agents. Without a command: the MCP server on stdio."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        settings = load_settings(
            backend=options.backend,
            endpoint=options.endpoint,
            data_dir=options.data_dir,
            public_url=getattr(options, "public_url", None),
            log_level=options.log_level,
        )
        _log_to_stderr(settings)
        return _run(options, settings)
    except AGBError as error:
        sys.stderr.write(f"ctx-mcp: {error.message} [{error.error_code}]\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _run(options: argparse.Namespace, settings: Settings) -> int:
    command: str | None = options.command
    if command is None:
        from ctx_mcp.cli.serve import serve_stdio

        return serve_stdio(settings)
    if command == "serve":
        from ctx_mcp.cli.serve import serve

        return serve(settings, transport=options.transport, host=options.host, port=options.port)
    if command == "service":
        from ctx_mcp.cli.service import run_service

        return run_service(settings, host=options.host, port=options.port)
    if command == "demo":
        from ctx_mcp.cli.demo import run_demo

        return run_demo(settings, folder=options.folder, data_dir_given=options.data_dir is not None)
    from ctx_mcp.cli.contracts import run_contracts

    return run_contracts(check=options.check)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ctx-mcp", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"ctx-mcp {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _common(parser, top=True)

    serve = commands.add_parser("serve", help="the MCP server on a transport of your choice")
    _common(serve)
    serve.add_argument("--transport", choices=("stdio", "http", "sse"), default="stdio")
    _address(serve, 8765)

    service = commands.add_parser("service", help="the context service over HTTP (AGB and native dialects)")
    _common(service)
    _address(service, 8766)
    service.add_argument("--public-url", help="where clients reach this service, e.g. https://contexts.example.org")

    demo = commands.add_parser("demo", help="a real client drives a real server through the life of a context")
    _common(demo)
    demo.add_argument("--folder", help="the folder to upload (default: this project's own source tree)")

    contracts = commands.add_parser("contracts", help="write tools/*.json, manifest.json's tools, README's table")
    _common(contracts)
    contracts.add_argument("--check", action="store_true", help="write nothing; fail on any difference")
    return parser


def _common(parser: argparse.ArgumentParser, *, top: bool = False) -> None:
    # A flag may stand before or behind the command; behind it, its absence must not undo the one before.
    default = None if top else argparse.SUPPRESS
    parser.add_argument("--backend", default=default, help="embedded (default), agb, or a context service's URL")
    parser.add_argument("--endpoint", default=default, help="where the cloud's API is, if not at its usual place")
    parser.add_argument("--data-dir", default=default, help="where the embedded backend keeps its data")
    parser.add_argument("--log-level", default=default, help="debug, info, warning (default) or error")


def _address(parser: argparse.ArgumentParser, port: int) -> None:
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=port, help=f"{port} by default; 0 takes any free one")


def _log_to_stderr(settings: Settings) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    # Their INFO lines would double the time of a call.
    for name in ("httpx", "httpcore", "httpx2", "httpcore2", "mcp", "uvicorn", "alembic"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


if __name__ == "__main__":
    sys.exit(main())
