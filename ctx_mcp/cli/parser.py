"""What can be written behind `ctx-mcp`. Imports nothing heavy: hosts wait for the server behind it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ctx_mcp import __version__
from ctx_mcp.cli.output import write_line
from ctx_mcp.cli.tenant_parser import add_tenants
from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.domain.paths import ROOT
from ctx_mcp.domain.sessions import ConflictRule, SyncMode
from ctx_mcp.settings import CONFIRM_MODES

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

SERVER_OPTIONS = {
    "toolsets": "--toolsets",
    "tools": "--tools",
    "read_only": "--read-only",
    "read_only_contexts": "--read-only-context",
    "confirm": "--confirm",
}
"""What only the MCP server takes: names of `settings.load_server_settings`, and the flags."""
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
        InvalidArgument: a port that cannot be, or what the transport has not.
    """
    options = build_parser().parse_args(arguments)
    port: int = getattr(options, "port", 0)
    if not 0 <= port <= _MAX_PORT:
        raise InvalidArgument(f"port {str(port)[:20]} is not in 0..{_MAX_PORT}")
    if getattr(options, "transport", "") == "stdio" and (options.tls_cert or options.tls_key):
        raise InvalidArgument("--tls-cert and --tls-key belong to --transport http or sse; leave them out")
    if getattr(options, "stateless", None) is not None and options.transport != "http":
        raise InvalidArgument("--stateless and --no-stateless belong to --transport http; leave them out")
    return options


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line. `command` is None where none is given."""
    parser = _Parser(prog="ctx-mcp", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"ctx-mcp {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _common(parser, top=True)
    _allow_dir(parser, default=None)
    _offered(parser, default=None)

    serve = commands.add_parser("serve", help="the MCP server on a transport of your choice")
    _common(serve)
    serve.add_argument("--transport", choices=("stdio", "http", "sse"), default="stdio")
    _allow_dir(serve, default=argparse.SUPPRESS)
    _offered(serve, default=argparse.SUPPRESS)
    _address(serve, 8765)
    serve.add_argument("--public-url", help="where clients reach this server, e.g. https://contexts.example.org")
    serve.add_argument(
        "--stateless",
        action=argparse.BooleanOptionalAction,
        help="http: keep no sessions, so that any of several servers may answer (default: with rows in PostgreSQL)",
    )

    service = commands.add_parser("service", help="the context service over HTTP (AGB and native dialects)")
    _common(service)
    _address(service, 8766)
    service.add_argument("--public-url", help="where clients reach this service, e.g. https://contexts.example.org")

    service.add_argument("--migrate", action="store_true", help="bring the stored format up to date, and end")

    demo = commands.add_parser("demo", help="a real client drives a real server through the life of a context")
    _common(demo)
    demo.add_argument("--folder", help="the folder to upload (default: this project's own source tree)")

    contracts = commands.add_parser("contracts", help="write tools/*.json, manifest.json's tools, README's table")
    _common(contracts)
    contracts.add_argument("--check", action="store_true", help="write nothing; fail on any difference")
    _add_people(commands)
    _add_sync(commands)
    _add_upkeep(commands)
    for each in add_tenants(commands):
        _common(each)
    return parser


def _common(parser: argparse.ArgumentParser, *, top: bool = False) -> None:
    # A flag may stand before or behind the command; behind it, its absence must not undo the one before.
    default = None if top else argparse.SUPPRESS
    parser.add_argument("--backend", default=default, help="embedded (default), agb, agentbay, or a service's URL")
    parser.add_argument("--endpoint", default=default, help="where the cloud's API is, if not at its usual place")
    parser.add_argument("--data-dir", default=default, help="where embedded contexts and syncs keep their data")
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


def _offered(parser: argparse.ArgumentParser, *, default: Any) -> None:
    parser.add_argument("--toolsets", default=default, metavar="NAMES", help="groups of tools to offer (default: all)")
    parser.add_argument("--tools", default=default, metavar="NAMES", help="single tools to offer, besides --toolsets")
    parser.add_argument("--read-only", action="store_true", default=default, help="let no tool change anything")
    parser.add_argument(
        "--read-only-context",
        # Not one for both: what stands behind the command would take away what stands before it.
        dest="read_only_contexts" if default is None else "more_read_only_contexts",
        action="append",
        metavar="CONTEXT",
        default=default,
        help="let no tool change this context, by id or exact name; may be given several times",
    )
    parser.add_argument(
        "--confirm",
        choices=CONFIRM_MODES,
        default=default,
        help="ask the user before deleting: always, auto (default: where the host can ask) or never",
    )


def _address(parser: argparse.ArgumentParser, port: int) -> None:
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=port, help=f"{port} by default; 0 takes any free one")
    parser.add_argument("--tls-cert", metavar="FILE", help="speak HTTPS with this certificate (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="the certificate's key (PEM)")


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
    cat.add_argument("--version", dest="version", metavar="ETAG", help="an older version, from history")
    put = commands.add_parser("put", help="store a local file")
    put.add_argument("context")
    put.add_argument("local", help="the file to store; - for standard input")
    put.add_argument("path", nargs="?", help="where (default: the local file's name)")
    get = commands.add_parser("get", help="fetch a file")
    get.add_argument("context")
    get.add_argument("path")
    get.add_argument("local", nargs="?", help="where to (default: the file's name, here)")
    rm = commands.add_parser("rm", help="delete a file, or with -r a folder")
    rm.add_argument("context")
    rm.add_argument("path")
    rm.add_argument("-r", "--recursive", action="store_true", help="a folder with all below it")
    mv = commands.add_parser("mv", help="move, rename or copy a file or a folder")
    mv.add_argument("context")
    mv.add_argument("path")
    mv.add_argument("to_path")
    mv.add_argument("--to-context", metavar="CONTEXT", help="another context")
    mv.add_argument("--copy", action="store_true", help="keep the original")
    search = commands.add_parser("search", help="find text in files, or files by name")
    search.add_argument("context")
    search.add_argument("query", nargs="?", default="", help="text within one line; none: files by --glob alone")
    search.add_argument("--glob", metavar="GLOB", help="only these: *.md for names, /src/**/*.py for paths")
    search.add_argument("--regex", action="store_true", help="the query is an RE2 expression")
    search.add_argument("--case-sensitive", action="store_true")
    shown = search.add_mutually_exclusive_group()
    shown.add_argument("--files", action="store_true", help="print the matching files only")
    shown.add_argument("--count", action="store_true", help="print how many lines of each file match")
    search.add_argument("--max", dest="max_results", type=int, default=1000, metavar="N", help="how many lines (1000)")
    history = commands.add_parser("history", help="list versions, newest first; deleted files are among them")
    history.add_argument("context")
    history.add_argument("path", nargs="?", default=ROOT, help="a file or a folder (/)")
    history.add_argument("--max", dest="max_results", type=int, default=50, metavar="N", help="how many lines (50)")
    restore = commands.add_parser("restore", help="bring back an older state; can itself be undone")
    restore.add_argument("context")
    restore.add_argument("path", help="a file, a folder, or / for the whole context")
    state = restore.add_mutually_exclusive_group(required=True)
    state.add_argument("--version", dest="version", metavar="ETAG", help="of one file, from history")
    state.add_argument("--as-of", metavar="TIME", help="as it was then, e.g. 2026-11-21T10:00:00Z")
    clear = commands.add_parser("clear", help="remove all files of a context and wait until that is done")
    clear.add_argument("context")
    clear.add_argument("--timeout", type=float, default=60, help="seconds to wait (60)")
    for parser in (contexts, create, rename, delete, ls, cat, put, get, rm, mv, search, history, restore, clear):
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


def _add_upkeep(commands: Any) -> None:
    backup = commands.add_parser("backup", help="copy the data folder while processes work with it")
    backup.add_argument("folder", metavar="DIR", help="a new folder, or that of an earlier backup, brought up to date")
    restored = commands.add_parser("restored", help="tell a restored store that it is one, so that clients notice")
    verify = commands.add_parser("verify", help="look whether the bytes of all files and their versions are there")
    verify.add_argument("--digests", action="store_true", help="read all bytes, and compare their digests")
    for parser in (backup, restored, verify):
        _common(parser)
