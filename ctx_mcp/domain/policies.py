"""What a binding syncs, and when: the policy classes of the SDKs, and their JSON text on the wire.

Fields, defaults and positional orders are those of agbcloud-sdk 0.12.0, with what wuying-agentbay-sdk 0.22.3 has
more behind them (`UploadPolicy.archive_exclude_paths`, the regular expressions of `WhiteList`,
`ContextSync.beta_wait_for_completion`). What each one means is in docs/sync.md. Making one with an unknown mode or
lifecycle, or with a wildcard in a path that is not marked as a regular expression, raises `InvalidArgument`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self, TypeVar, cast

from ctx_mcp.domain.errors import InvalidArgument

JsonObject = dict[str, object]
WordT = TypeVar("WordT", bound=StrEnum)
_WILDCARD = re.compile(r"[*?\[\]]")


class UploadStrategy(StrEnum):
    UPLOAD_BEFORE_RESOURCE_RELEASE = "UploadBeforeResourceRelease"


class DownloadStrategy(StrEnum):
    DOWNLOAD_ASYNC = "DownloadAsync"


class UploadMode(StrEnum):
    """`File`: each file for itself. `Archive`: all files of a binding in one zip file."""

    FILE = "File"
    ARCHIVE = "Archive"


class Lifecycle(StrEnum):
    """How long a file stays in the context after its upload."""

    LIFECYCLE_1DAY = "Lifecycle_1Day"
    LIFECYCLE_3DAYS = "Lifecycle_3Days"
    LIFECYCLE_5DAYS = "Lifecycle_5Days"
    LIFECYCLE_10DAYS = "Lifecycle_10Days"
    LIFECYCLE_15DAYS = "Lifecycle_15Days"
    LIFECYCLE_30DAYS = "Lifecycle_30Days"
    LIFECYCLE_90DAYS = "Lifecycle_90Days"
    LIFECYCLE_180DAYS = "Lifecycle_180Days"
    LIFECYCLE_360DAYS = "Lifecycle_360Days"
    LIFECYCLE_FOREVER = "Lifecycle_Forever"

    @property
    def days(self) -> int | None:
        """The number of days, None for ever."""
        number = re.search(r"\d+", self.value)
        return int(number[0]) if number else None


class _Policy:
    @classmethod
    def default(cls) -> Self:
        """Return the policy that holds where none is given."""
        return cls()


@dataclass
class UploadPolicy(_Policy):
    """Whether and how files go up when the session is released.

    `archive_exclude_paths` are folders or files, relative to the mount path, that stay single files in archive mode;
    they have no meaning in file mode.
    """

    auto_upload: bool = True
    upload_strategy: UploadStrategy = UploadStrategy.UPLOAD_BEFORE_RESOURCE_RELEASE
    upload_mode: UploadMode = UploadMode.FILE
    archive_exclude_paths: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        _check_word("upload_mode", self.upload_mode, UploadMode)

    def to_dict(self) -> JsonObject:
        spelled: JsonObject = {
            "autoUpload": self.auto_upload,
            "uploadStrategy": self.upload_strategy,
            "uploadMode": self.upload_mode,
        }
        if self.archive_exclude_paths and self.upload_mode == UploadMode.ARCHIVE:
            spelled["archiveExcludePaths"] = self.archive_exclude_paths
        return spelled


@dataclass
class DownloadPolicy(_Policy):
    """Whether files come down when the context is bound."""

    auto_download: bool = True
    download_strategy: DownloadStrategy = DownloadStrategy.DOWNLOAD_ASYNC

    def to_dict(self) -> JsonObject:
        return {"autoDownload": self.auto_download, "downloadStrategy": self.download_strategy}


@dataclass
class DeletePolicy(_Policy):
    """Whether deletions travel."""

    sync_local_file: bool = True

    def to_dict(self) -> JsonObject:
        return {"syncLocalFile": self.sync_local_file}


@dataclass
class ExtractPolicy(_Policy):
    """What a download does with an archive; `extract_current_folder` has no effect."""

    extract: bool = True
    delete_src_file: bool = True
    extract_current_folder: bool = False

    def to_dict(self) -> JsonObject:
        return {
            "extract": self.extract,
            "deleteSrcFile": self.delete_src_file,
            "extractToCurrentFolder": self.extract_current_folder,
        }


@dataclass
class RecyclePolicy(_Policy):
    """When files of `paths`, relative to the mount path (`""` is all), are deleted from the context."""

    lifecycle: Lifecycle = Lifecycle.LIFECYCLE_FOREVER
    paths: list[str] = field(default_factory=lambda: [""])

    def __post_init__(self) -> None:
        _check_word("lifecycle", self.lifecycle, Lifecycle)
        _refuse_wildcards("recycle path", self.paths, "give exact paths")

    def to_dict(self) -> JsonObject:
        return {"lifecycle": self.lifecycle, "paths": self.paths}


@dataclass
class WhiteList:
    """One folder to sync, relative to the mount path, without `exclude_paths`, which are relative to it."""

    path: str = ""
    exclude_paths: list[str] = field(default_factory=list[str])
    is_path_regex: bool = False
    is_exclude_regex: bool = False

    def __post_init__(self) -> None:
        if not self.is_path_regex:
            _refuse_wildcards("white list path", [self.path], "give an exact path or set is_path_regex")
        if not self.is_exclude_regex:
            _refuse_wildcards("exclude path", self.exclude_paths, "give exact paths or set is_exclude_regex")

    def to_dict(self) -> JsonObject:
        """Spell the row; the two marks only where they are set, because AGB does not know them."""
        spelled: JsonObject = {"path": self.path, "excludePaths": self.exclude_paths}
        if self.is_path_regex:
            spelled["isPathRegex"] = True
        if self.is_exclude_regex:
            spelled["isExcludeRegex"] = True
        return spelled


@dataclass
class BWList:
    """What is synced: everything when there is no row, or one with the path `""`."""

    white_lists: list[WhiteList] = field(default_factory=list[WhiteList])

    def to_dict(self) -> JsonObject:
        return {"whiteLists": [row.to_dict() for row in self.white_lists]}


@dataclass
class MappingPolicy(_Policy):
    """Where in the context the files are, when not at the mount path: the path at which they were made."""

    path: str = ""

    def to_dict(self) -> JsonObject:
        return {"path": self.path}


@dataclass(init=False)
class SyncPolicy(_Policy):
    """All of them; what is left out is the default one, and no mapping."""

    upload_policy: UploadPolicy
    download_policy: DownloadPolicy
    delete_policy: DeletePolicy
    extract_policy: ExtractPolicy
    recycle_policy: RecyclePolicy
    bw_list: BWList
    mapping_policy: MappingPolicy | None

    def __init__(
        self,
        upload_policy: UploadPolicy | None = None,
        download_policy: DownloadPolicy | None = None,
        delete_policy: DeletePolicy | None = None,
        extract_policy: ExtractPolicy | None = None,
        recycle_policy: RecyclePolicy | None = None,
        bw_list: BWList | None = None,
        mapping_policy: MappingPolicy | None = None,
    ) -> None:
        self.upload_policy = upload_policy or UploadPolicy()
        self.download_policy = download_policy or DownloadPolicy()
        self.delete_policy = delete_policy or DeletePolicy()
        self.extract_policy = extract_policy or ExtractPolicy()
        self.recycle_policy = recycle_policy or RecyclePolicy()
        self.bw_list = bw_list or BWList()
        self.mapping_policy = mapping_policy

    def to_dict(self) -> JsonObject:
        spelled: JsonObject = {
            "uploadPolicy": self.upload_policy.to_dict(),
            "downloadPolicy": self.download_policy.to_dict(),
            "deletePolicy": self.delete_policy.to_dict(),
            "extractPolicy": self.extract_policy.to_dict(),
            "recyclePolicy": self.recycle_policy.to_dict(),
            "bwList": self.bw_list.to_dict(),
        }
        if self.mapping_policy is not None:
            spelled["mappingPolicy"] = self.mapping_policy.to_dict()
        return spelled


@dataclass
class ContextSync:
    """A context to bind at `path` of a session. Without a policy the default one holds.

    `beta_wait_for_completion` False: creating the session does not wait for this one's download.
    """

    context_id: str
    path: str
    policy: SyncPolicy | None = None
    beta_wait_for_completion: bool | None = None

    @classmethod
    def new(
        cls,
        context_id: str,
        path: str,
        policy: SyncPolicy | None = None,
        beta_wait_for_completion: bool | None = None,
    ) -> Self:
        return cls(context_id, path, policy, beta_wait_for_completion)

    def with_policy(self, policy: SyncPolicy) -> Self:
        """Set the policy and return this very object."""
        self.policy = policy
        return self


def policy_to_json(policy: SyncPolicy) -> str:
    """Return the text that stands for a policy on the wire.

    Raises:
        InvalidArgument: a field was set to what it cannot be after the policy was made.
    """
    try:
        text = json.dumps(policy.to_dict())
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"the policy cannot be spelled as JSON: {error}") from error
    policy_from_json(text)
    return text


def policy_from_json(text: str | None) -> SyncPolicy:
    """Read a policy. Nothing, nulls and missing parts mean the defaults; unknown keys are ignored.

    Raises:
        InvalidArgument: no JSON object, or a value that its field cannot have; names the field.
    """
    if text is None or not text.strip():
        return SyncPolicy()
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"the policy is not JSON: {error}") from error
    policy = _Part("", value)
    upload, download = policy.part("uploadPolicy"), policy.part("downloadPolicy")
    extract, recycle = policy.part("extractPolicy"), policy.part("recyclePolicy")
    mapping = policy.part("mappingPolicy")
    return SyncPolicy(
        UploadPolicy(
            upload.flag("autoUpload", default=True),
            upload.word("uploadStrategy", UploadStrategy.UPLOAD_BEFORE_RESOURCE_RELEASE),
            upload.word("uploadMode", UploadMode.FILE),
            upload.texts("archiveExcludePaths", []),
        ),
        DownloadPolicy(
            download.flag("autoDownload", default=True),
            download.word("downloadStrategy", DownloadStrategy.DOWNLOAD_ASYNC),
        ),
        DeletePolicy(policy.part("deletePolicy").flag("syncLocalFile", default=True)),
        ExtractPolicy(
            extract.flag("extract", default=True),
            extract.flag("deleteSrcFile", default=True),
            extract.flag("extractToCurrentFolder", default=False),
        ),
        RecyclePolicy(recycle.word("lifecycle", Lifecycle.LIFECYCLE_FOREVER), recycle.texts("paths", [""])),
        BWList([_white_list(row) for row in policy.part("bwList").parts("whiteLists")]),
        MappingPolicy(mapping.text("path")) if mapping.is_given else None,
    )


def _white_list(row: _Part) -> WhiteList:
    return WhiteList(
        row.text("path"),
        row.texts("excludePaths", []),
        row.flag("isPathRegex", default=False),
        row.flag("isExcludeRegex", default=False),
    )


class _Part:
    """One object of a policy's JSON; its readers check types and name the field that has a wrong one."""

    def __init__(self, name: str, value: object) -> None:
        if value is not None and not isinstance(value, dict):
            raise InvalidArgument(f"{name or 'the policy'} must be an object")
        self._name = name
        self._fields = cast("JsonObject", value or {})
        self.is_given = value is not None

    def part(self, key: str) -> _Part:
        return _Part(self._named(key), self._fields.get(key))

    def parts(self, key: str) -> list[_Part]:
        return [_Part(f"{self._named(key)}[{number}]", row) for number, row in enumerate(self._items(key, []))]

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._fields.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise InvalidArgument(f"{self._named(key)} must be true or false")
        return value

    def text(self, key: str) -> str:
        value = self._fields.get(key)
        return "" if value is None else _text(self._named(key), value)

    def texts(self, key: str, default: list[str]) -> list[str]:
        return [_text(f"{self._named(key)}[{number}]", item) for number, item in enumerate(self._items(key, default))]

    def word(self, key: str, default: WordT) -> WordT:
        value, words = self._fields.get(key), type(default)
        if value is None:
            return default
        if not isinstance(value, str) or value not in (word.value for word in words):
            raise InvalidArgument(f"{self._named(key)} must be one of {', '.join(words)}")
        return words(value)

    def _items(self, key: str, default: Sequence[object]) -> Sequence[object]:
        value = self._fields.get(key)
        if value is None:
            return default
        if not isinstance(value, list):
            raise InvalidArgument(f"{self._named(key)} must be a list")
        return cast("list[object]", value)

    def _named(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f"{name} must be a text")
    return value


def _check_word(name: str, value: object, words: type[StrEnum]) -> None:
    if not isinstance(value, words):
        raise InvalidArgument(f"{name} {value!r} is none of {', '.join(words)}; give one of {words.__name__}")


def _refuse_wildcards(name: str, paths: Sequence[object], advice: str) -> None:
    for path in paths:
        if _WILDCARD.search(_text(name, path)):
            raise InvalidArgument(f"{name} {path!r} holds a wildcard (* ? [ ]), which is not understood; {advice}")
