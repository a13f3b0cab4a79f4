"""What can be written behind `ctx-mcp`. Imports nothing heavy: hosts wait for the server behind it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ctx_mcp import __version__
from ctx_mcp.cli.output import write_line
from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.domain.paths import ROOT
from ctx_mcp.domain.sessions import ConflictRule, SyncMode

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_MAX_PORT = 65535
_DESCRIPTION = "Durable contexts for agents. Without a command: the MCP server on stdio."


class _Parser(argparse.ArgumentParser):
    """Tells when help or version could not be written, which argparse keeps to itself."""

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        if file is sys.stdout:
            write_line(message.removesuffix("\n"))
        else:
            super()._print_message(message, file)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line says; wrong usage ends the process with code 2, as argparse does.

    Raises:
        InvalidArgument: a port that cannot be.
    """
    options = build_parser().parse_args(arguments)
    port: int = getattr(options, "port", 0)
    if not 0 <= port <= _MAX_PORT:
        raise InvalidArgument(f"port {str(port)[:20]} is not in 0..{_MAX_PORT}")
    return options


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line. `command` is None where none is given."""
    parser = _Parser(prog="ctx-mcp", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"ctx-mcp {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _common(parser, top=True)
    _allow_dir(parser, default=None)

    serve = commands.add_parser("serve", help="the MCP server on a transport of your choice")
    _common(serve)
    serve.add_argument("--transport", choices=("stdio", "http", "sse"), default="stdio")
    _allow_dir(serve, default=argparse.SUPPRESS)
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
    _add_people(commands)
    _add_sync(commands)
    return parser


def _common(parser: argparse.ArgumentParser, *, top: bool = False) -> None:
    # A flag may stand before or behind the command; behind it, its absence must not undo the one before.
    default = None if top else argparse.SUPPRESS
    parser.add_argument("--backend", default=default, help="embedded (default), agb, or a context service's URL")
    parser.add_argument("--endpoint", default=default, help="where the cloud's API is, if not at its usual place")
    parser.add_argument("--data-dir", default=default, help="where the embedded backend keeps its data")
    parser.add_argument("--log-level", default=default, help="debug, info, warning (default) or error")


def _allow_dir(parser: argparse.ArgumentParser, *, default: Any) -> None:
    parser.add_argument(
        "--allow-dir",
        dest="allowed_dirs",
        action="append",
        metavar="DIR",
        default=default,
        help="a folder whose files may be synced, by its absolute path; may be given several times "
        "(default on stdio: the working directory; over HTTP: none)",
    )


def _address(parser: argparse.ArgumentParser, port: int) -> None:
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=port, help=f"{port} by default; 0 takes any free one")


def _add_people(commands: Any) -> None:
    contexts = commands.add_parser("contexts", help="list contexts, or create, rename or delete one")
    actions = contexts.add_subparsers(dest="action", metavar="ACTION")
    create = actions.add_parser("create", help="make a context, or show the one of this name")
    create.add_argument("name")
    rename = actions.add_parser("rename", help="give a context another name")
    rename.add_argument("context")
    rename.add_argument("name")
    delete = actions.add_parser("delete", help="delete a context with all its files")
    delete.add_argument("context")

    ls = commands.add_parser("ls", help="list a folder")
    ls.add_argument("context")
    ls.add_argument("path", nargs="?", default="/")
    cat = commands.add_parser("cat", help="write a file to standard output")
    cat.add_argument("context")
    cat.add_argument("path")
    put = commands.add_parser("put", help="store a local file")
    put.add_argument("context")
    put.add_argument("local", help="the file to store; - for standard input")
    put.add_argument("path", nargs="?", help="where (default: the local file's name)")
    get = commands.add_parser("get", help="fetch a file")
    get.add_argument("context")
    get.add_argument("path")
    get.add_argument("local", nargs="?", help="where to (default: the file's name, here)")
    rm = commands.add_parser("rm", help="delete a file")
    rm.add_argument("context")
    rm.add_argument("path")
    clear = commands.add_parser("clear", help="remove all files of a context and wait until that is done")
    clear.add_argument("context")
    clear.add_argument("--timeout", type=float, default=60, help="seconds to wait (60)")
    for parser in (contexts, create, rename, delete, ls, cat, put, get, rm, clear):
        _common(parser)


def _add_sync(commands: Any) -> None:
    sync = commands.add_parser("sync", help="sync a folder of this machine with a context")
    sync.add_argument("folder", metavar="DIR")
    sync.add_argument("context", metavar="CONTEXT", help="id or exact name; made when it is missing")
    sync.add_argument(
        "--mode",
        choices=[str(mode) for mode in SyncMode],
        default=str(SyncMode.BOTH),
        help="which way changes travel (both)",
    )
    sync.add_argument("--context-path", default=ROOT, metavar="PATH", help="the folder of the context (/)")
    sync.add_argument(
        "--conflict",
        choices=[str(rule) for rule in ConflictRule],
        default=str(ConflictRule.KEEP_BOTH),
        help="who keeps the name where both sides changed a file (keep_both)",
    )
    sync.add_argument("--no-delete", action="store_true", help="let no deletion travel")
    sync.add_argument("--dry-run", action="store_true", help="list what would be done, and change nothing")
    sync.add_argument("--watch", action="store_true", help="go on with every change until interrupted")
    sync.add_argument(
        "--every", type=float, default=30, metavar="S", help="with --watch: seconds between looks at the context (30)"
    )
    _common(sync)
