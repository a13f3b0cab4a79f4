"""`ctx-mcp`: without a command the MCP server on stdio, which is what hosts launch."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from ctx_mcp.cli.parser import build_parser
from ctx_mcp.domain.errors import AGBError
from ctx_mcp.settings import Settings, load_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong usage."""
    options = build_parser().parse_args(arguments)
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
    if command == "contracts":
        from ctx_mcp.cli.contracts import run_contracts

        return run_contracts(check=options.check)
    from ctx_mcp.cli.people import run_command

    return run_command(settings, options)


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
