"""Every error a caller can meet, in one tree.

::

    AGBError                          base of all; `AgentBayError` is the same class
    ├── InvalidArgument (ValueError)  Argument.Invalid
    │   ├── InvalidName               Name.Invalid
    │   ├── InvalidPath               Path.Invalid
    │   ├── InvalidToken              Token.Invalid
    │   ├── InvalidPattern            Pattern.Invalid
    │   └── ClientNotOpen             Client.NotOpen
    ├── Unauthenticated               Auth.Unauthenticated
    ├── AccessDenied                  Auth.AccessDenied
    │   ├── ReadOnly                  Access.ReadOnly
    │   ├── ScopeMissing              Auth.ScopeMissing
    │   ├── AccountSuspended          Auth.AccountSuspended
    │   ├── UrlTampered               Url.SignatureMismatch
    │   └── UrlExpired                Url.Expired
    ├── QuotaExceeded                 Quota.Exceeded
    │   └── TooManyRequests           Throttling.Account
    ├── AccountNotFound               Account.NotFound
    ├── KeyNotFound                   Key.NotFound
    ├── ContextNotFound               Context.NotFound
    ├── NameTaken                     Context.NameTaken
    ├── FileNotFound                  File.NotFound
    ├── PathConflict                  Path.Conflict
    ├── FileExists                    File.Exists
    ├── VersionConflict               File.VersionConflict
    ├── VersionNotFound               Version.NotFound
    ├── TextNotFound                  Edit.NotFound
    ├── TextAmbiguous                 Edit.Ambiguous
    ├── TooManyFiles                  Tree.TooLarge
    ├── FileTooLarge                  File.TooLarge
    ├── NotText                       File.NotText
    ├── TaskNotFound                  Task.NotFound
    ├── LeaseLost                     Task.LeaseLost
    ├── SessionNotFound               InvalidMcpSession.NotFound
    ├── BindingNotFound               Session.NotBound
    ├── PathAlreadyBound              PathAlreadyBound
    ├── FolderNotAllowed              Folder.NotAllowed
    ├── FolderUnusable                Folder.Unusable
    ├── SyncConflict                  Sync.Conflict
    ├── SyncIncomplete                Sync.Incomplete
    ├── ClearanceTimeoutError         Clear.Timeout
    ├── ConfirmationNeeded            Confirm.Needed
    ├── ConfirmationDeclined          Confirm.Declined
    ├── ConfirmationImpossible        Confirm.Impossible
    ├── UnknownOperation              Operation.Unknown
    ├── UnsupportedOperation          Operation.Unsupported
    ├── StoreUnusable                 Store.Unusable
    ├── BackendUnavailable            Backend.Unavailable
    ├── BackendProtocolError          Backend.ProtocolError
    └── RemoteError                   whatever code the other side sent

`code` is the API and stable; the text is for people and may change. The same class is raised on both
sides of the wire: `ctx_mcp.domain.error_codes` turns a code received back into its class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar


class AGBError(Exception):
    """Base of every error of this package. `request_id` names the call that failed, when there was one; `lineage` is
    which history of its store a service refused it from, where it tells."""

    code: ClassVar[str] = "Error"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str | None = None, *, request_id: str = "") -> None:
        self.message = message if message is not None else type(self).__name__
        self.request_id = request_id
        self.lineage: str | None = None
        super().__init__(self.message)

    @property
    def error_code(self) -> str:
        """The code of this very error; only `RemoteError` differs from its class's `code`."""
        return self.code

    def rewrite(self, change: Callable[[str], str]) -> None:
        """Change each of the error's texts, as where one quotes what must not be shown."""
        self.message, self.request_id = change(self.message), change(self.request_id)
        self.args = (self.message,)


AgentBayError = AGBError


class InvalidArgument(AGBError, ValueError):
    """An argument breaks a documented rule; the text says which and what is allowed."""

    code = "Argument.Invalid"
    http_status = 400


class InvalidName(InvalidArgument):
    code = "Name.Invalid"


class InvalidPath(InvalidArgument):
    code = "Path.Invalid"


class InvalidToken(InvalidArgument):
    code = "Token.Invalid"


class InvalidPattern(InvalidArgument):
    """A regular expression or a glob that cannot be read; the text says why."""

    code = "Pattern.Invalid"


class ClientNotOpen(InvalidArgument):
    """A client is used outside its `with` block."""

    code = "Client.NotOpen"


class Unauthenticated(AGBError):
    code = "Auth.Unauthenticated"
    http_status = 401


class AccessDenied(AGBError):
    code = "Auth.AccessDenied"
    http_status = 403


class ReadOnly(AccessDenied):
    """The MCP server's settings let no tool change this; nothing was changed."""

    code = "Access.ReadOnly"


class ScopeMissing(AccessDenied):
    """The caller's key has not the scope that the operation needs; nothing was done."""

    code = "Auth.ScopeMissing"


class AccountSuspended(AccessDenied):
    """Whoever runs the service has suspended the account; nothing was done, and nothing is lost."""

    code = "Auth.AccountSuspended"


class UrlTampered(AccessDenied):
    code = "Url.SignatureMismatch"


class UrlExpired(AccessDenied):
    code = "Url.Expired"


class QuotaExceeded(AGBError):
    """The change would take the account above what it may keep; nothing was changed."""

    code = "Quota.Exceeded"
    http_status = 403


class TooManyRequests(QuotaExceeded):
    """The account has asked more often than it may; `retry_after_s` tells when it may again, where that is known.

    The code is one of the family that clients of the clouds try again.
    """

    code = "Throttling.Account"
    http_status = 429
    retry_after_s: float | None = None


class AccountNotFound(AGBError):
    code = "Account.NotFound"
    http_status = 404


class KeyNotFound(AGBError):
    code = "Key.NotFound"
    http_status = 404


class ContextNotFound(AGBError):
    code = "Context.NotFound"
    http_status = 404


class NameTaken(AGBError):
    code = "Context.NameTaken"
    http_status = 409


class FileNotFound(AGBError):
    code = "File.NotFound"
    http_status = 404


class PathConflict(AGBError):
    """A file stands where a folder is needed, or a folder where a file is."""

    code = "Path.Conflict"
    http_status = 409


class FileExists(AGBError):
    """A file stands where a new one was to be made."""

    code = "File.Exists"
    http_status = 409


class VersionConflict(AGBError):
    code = "File.VersionConflict"
    http_status = 412


class VersionNotFound(AGBError):
    """No such version at this path, or its retention is over."""

    code = "Version.NotFound"
    http_status = 404


class TextNotFound(AGBError):
    """The text to replace is not in the file; the message shows the lines that come nearest. Nothing changed."""

    code = "Edit.NotFound"
    http_status = 409


class TextAmbiguous(AGBError):
    """The text to replace occurs another number of times than expected; the message says where. Nothing changed."""

    code = "Edit.Ambiguous"
    http_status = 409


class TooManyFiles(AGBError):
    """More files than one atomic change may touch; nothing changed."""

    code = "Tree.TooLarge"
    http_status = 413


class FileTooLarge(AGBError):
    code = "File.TooLarge"
    http_status = 413


class NotText(AGBError):
    code = "File.NotText"
    http_status = 415


class TaskNotFound(AGBError):
    code = "Task.NotFound"
    http_status = 404


class LeaseLost(AGBError):
    """Another process holds the task now; this one must stop working on it."""

    code = "Task.LeaseLost"
    http_status = 409


class SessionNotFound(AGBError):
    """No such session, or it is released. The code is the clouds' own. Source: wire/behaviours.md 70."""

    code = "InvalidMcpSession.NotFound"
    http_status = 400


class BindingNotFound(AGBError):
    """The session has no binding of this context at this path."""

    code = "Session.NotBound"
    http_status = 404


class PathAlreadyBound(AGBError):
    """A path of a session is bound already. The code is the clouds' own. Source: wire/agentbay.md 4."""

    code = "PathAlreadyBound"
    http_status = 400


class FolderNotAllowed(AGBError):
    """A folder of this machine lies outside what the settings allow."""

    code = "Folder.NotAllowed"
    http_status = 403


class FolderUnusable(AGBError):
    """A folder of this machine is missing, is none, or cannot be read or written."""

    code = "Folder.Unusable"
    http_status = 409


class SyncConflict(AGBError):
    """Both sides changed, and the sync was to fail then; nothing was changed."""

    code = "Sync.Conflict"
    http_status = 409


class SyncIncomplete(AGBError):
    """A sync ended with files it could not carry; all others are synced."""

    code = "Sync.Incomplete"
    http_status = 409


class ClearanceTimeoutError(AGBError):
    """The clear did not end within the time the caller gave; it goes on in the background."""

    code = "Clear.Timeout"
    http_status = 504


class ConfirmationNeeded(AGBError):
    """A tool deletes only what was confirmed, and its call does not say that it was; nothing was changed."""

    code = "Confirm.Needed"
    http_status = 428


class ConfirmationDeclined(AGBError):
    """Whoever was asked said no, or nothing; nothing was changed."""

    code = "Confirm.Declined"
    http_status = 403


class ConfirmationImpossible(AGBError):
    """Only a person may confirm this, and the host cannot ask one; nothing was changed."""

    code = "Confirm.Impossible"
    http_status = 403


class UnknownOperation(AGBError):
    code = "Operation.Unknown"
    http_status = 404


class UnsupportedOperation(AGBError):
    """The backend in use cannot do this."""

    code = "Operation.Unsupported"
    http_status = 501


class StoreUnusable(AGBError):
    """The stored data cannot be opened by this version of the program, or not here."""

    code = "Store.Unusable"
    http_status = 500


class BackendUnavailable(AGBError):
    code = "Backend.Unavailable"
    http_status = 503


class BackendProtocolError(AGBError):
    """The other side answered something this client cannot read."""

    code = "Backend.ProtocolError"
    http_status = 502


class RemoteError(AGBError):
    """An error with a code this version does not know, kept as it came."""

    code = "Remote.Error"
    http_status = 502

    def __init__(self, message: str | None = None, *, request_id: str = "", remote_code: str = "") -> None:
        super().__init__(message, request_id=request_id)
        self._remote_code = remote_code

    @property
    def error_code(self) -> str:
        return self._remote_code or self.code

    def rewrite(self, change: Callable[[str], str]) -> None:
        super().rewrite(change)
        self._remote_code = change(self._remote_code)
