"""The policies: what they are by default, what they refuse, and their JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any, cast

import pytest

import ctx_mcp.agentbay
from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.domain.policies import (
    BWList,
    ContextSync,
    DeletePolicy,
    DownloadPolicy,
    ExtractPolicy,
    Lifecycle,
    MappingPolicy,
    RecyclePolicy,
    SyncPolicy,
    UploadMode,
    UploadPolicy,
    WhiteList,
    policy_from_json,
    policy_to_json,
)
from ctx_mcp.wire.binding_policies import with_all_marks
from tests.conformance.agb_sdk import sdk_module

AGENTBAY_DEFAULT = """{
 "uploadPolicy": {"autoUpload": true, "uploadStrategy": "UploadBeforeResourceRelease", "uploadMode": "File"},
 "downloadPolicy": {"autoDownload": true, "downloadStrategy": "DownloadAsync"},
 "deletePolicy": {"syncLocalFile": true},
 "extractPolicy": {"extract": true, "deleteSrcFile": true, "extractToCurrentFolder": false},
 "recyclePolicy": {"lifecycle": "Lifecycle_Forever", "paths": [""]},
 "bwList": {"whiteLists": [{"path": "", "excludePaths": [], "isPathRegex": false, "isExcludeRegex": false}]}}"""
"""Source: wire/agentbay.md 4."""
FULL = SyncPolicy(
    UploadPolicy(auto_upload=False, upload_mode=UploadMode.ARCHIVE, archive_exclude_paths=["logs", "ü/x"]),
    DownloadPolicy(auto_download=False),
    DeletePolicy(sync_local_file=False),
    ExtractPolicy(extract=False, delete_src_file=False, extract_current_folder=True),
    RecyclePolicy(Lifecycle.LIFECYCLE_30DAYS, ["old", "tmp/a b"]),
    BWList([WhiteList("src", ["node_modules"]), WhiteList(".*[.]py", ["a*"], True, True)]),
    MappingPolicy("/orig"),
)
CLASSES = (
    "UploadPolicy",
    "DownloadPolicy",
    "DeletePolicy",
    "ExtractPolicy",
    "RecyclePolicy",
    "WhiteList",
    "BWList",
    "MappingPolicy",
    "SyncPolicy",
)
ENUMS = ("UploadStrategy", "DownloadStrategy", "UploadMode", "Lifecycle")


def _sdk(name: str) -> Any:
    return getattr(sdk_module("agb.context_sync"), name)


@pytest.mark.parametrize("name", CLASSES)
def test_the_default_of_each_class_is_spelled_as_the_sdk_spells_it(name: str) -> None:
    assert getattr(ctx_mcp, name)().to_dict() == _sdk(name)().to_dict()


@pytest.mark.parametrize("name", ENUMS)
def test_an_enum_has_the_members_of_the_sdk(name: str) -> None:
    assert {word.name: word.value for word in getattr(ctx_mcp, name)} == {word.name: word.value for word in _sdk(name)}


def test_a_policy_with_everything_is_read_by_either_side_alike() -> None:
    upload = _sdk("UploadPolicy")(False, upload_mode=_sdk("UploadMode").ARCHIVE)
    recycle = _sdk("RecyclePolicy")(_sdk("Lifecycle").LIFECYCLE_1DAY, ["a", "b"])
    rows = _sdk("BWList")([_sdk("WhiteList")("/src", ["/nm"])])
    theirs = _sdk("SyncPolicy")(
        upload, recycle_policy=recycle, bw_list=rows, mapping_policy=_sdk("MappingPolicy")("/o")
    )
    ours = policy_from_json(json.dumps(theirs.to_dict()))
    assert ours.to_dict() == theirs.to_dict()
    assert ours.recycle_policy.lifecycle is Lifecycle.LIFECYCLE_1DAY
    assert ours.bw_list == BWList([WhiteList("/src", ["/nm"])])


@pytest.mark.parametrize("policy", [SyncPolicy(), FULL], ids=["default", "full"])
def test_a_policy_survives_its_json(policy: SyncPolicy) -> None:
    assert policy_from_json(policy_to_json(policy)) == policy


def test_agentbays_default_is_read_and_means_everything() -> None:
    policy = policy_from_json(AGENTBAY_DEFAULT)
    assert policy == SyncPolicy(bw_list=BWList([WhiteList("")]))
    theirs = ctx_mcp.agentbay.SyncPolicy()
    assert policy_from_json(policy_to_json(theirs)) == policy
    assert ctx_mcp.agentbay.SyncPolicy.default().to_dict() == theirs.to_dict()


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        " ",
        "null",
        "{}",
        '{"uploadPolicy": null, "downloadPolicy": null, "deletePolicy": null, "extractPolicy": null}',
        '{"recyclePolicy": null, "bwList": null, "mappingPolicy": null}',
        '{"uploadPolicy": {}, "recyclePolicy": {"paths": null, "lifecycle": null}, "bwList": {"whiteLists": null}}',
        '{"uploadPolicy": {"autoUpload": null, "uploadMode": null, "archiveExcludePaths": null}}',
        '{"unknown": [1], "uploadPolicy": {"compress": "zstd"}}',
    ],
)
def test_what_is_missing_null_or_unknown_means_the_default(text: str | None) -> None:
    assert policy_from_json(text) == SyncPolicy()


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{", "JSON"),
        ("[" * 100_000, "JSON"),
        ("[]", "policy"),
        ('"text"', "policy"),
        ('{"uploadPolicy": []}', "uploadPolicy"),
        ('{"uploadPolicy": {"autoUpload": 1}}', "uploadPolicy.autoUpload"),
        ('{"uploadPolicy": {"autoUpload": "true"}}', "uploadPolicy.autoUpload"),
        ('{"uploadPolicy": {"uploadMode": "Zip"}}', "uploadPolicy.uploadMode"),
        ('{"uploadPolicy": {"uploadMode": ["File"]}}', "uploadPolicy.uploadMode"),
        ('{"uploadPolicy": {"uploadStrategy": "Now"}}', "uploadPolicy.uploadStrategy"),
        ('{"uploadPolicy": {"archiveExcludePaths": "logs"}}', "uploadPolicy.archiveExcludePaths"),
        ('{"uploadPolicy": {"archiveExcludePaths": [1]}}', "uploadPolicy.archiveExcludePaths[0]"),
        ('{"downloadPolicy": {"autoDownload": 0}}', "downloadPolicy.autoDownload"),
        ('{"downloadPolicy": {"downloadStrategy": "Lazy"}}', "downloadPolicy.downloadStrategy"),
        ('{"deletePolicy": {"syncLocalFile": {}}}', "deletePolicy.syncLocalFile"),
        ('{"extractPolicy": {"deleteSrcFile": "no"}}', "extractPolicy.deleteSrcFile"),
        ('{"recyclePolicy": {"lifecycle": "Lifecycle_7Days"}}', "recyclePolicy.lifecycle"),
        ('{"recyclePolicy": {"paths": [""," ", null]}}', "recyclePolicy.paths[2]"),
        ('{"recyclePolicy": {"paths": ["*.log"]}}', "recycle path"),
        ('{"bwList": {"whiteLists": {}}}', "bwList.whiteLists"),
        ('{"bwList": {"whiteLists": [{}, "src"]}}', "bwList.whiteLists[1]"),
        ('{"bwList": {"whiteLists": [{"path": 0}]}}', "bwList.whiteLists[0].path"),
        ('{"bwList": {"whiteLists": [{"excludePaths": [false]}]}}', "bwList.whiteLists[0].excludePaths[0]"),
        ('{"bwList": {"whiteLists": [{"isPathRegex": "yes"}]}}', "bwList.whiteLists[0].isPathRegex"),
        ('{"bwList": {"whiteLists": [{"path": "src/*"}]}}', "white list path"),
        ('{"bwList": {"whiteLists": [{"path": "a", "excludePaths": ["b?"]}]}}', "exclude path"),
        ('{"mappingPolicy": {"path": 1}}', "mappingPolicy.path"),
    ],
)
def test_a_wrong_value_is_refused_in_the_name_of_its_field(text: str, field: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        policy_from_json(text)
    assert field in refusal.value.message


WRONG: list[tuple[str, Callable[[], object]]] = [
    ("upload_mode", lambda: UploadPolicy(upload_mode=cast("Any", "Archive"))),
    ("lifecycle", lambda: RecyclePolicy(cast("Any", "Lifecycle_1Day"))),
    ("recycle path", lambda: RecyclePolicy(paths=["logs/*"])),
    ("white list path", lambda: WhiteList("a[0]")),
    ("exclude path", lambda: WhiteList("a", ["b?"])),
    ("white list path", lambda: WhiteList("a*", ["b?"], is_exclude_regex=True)),
    ("exclude path", lambda: WhiteList("a*", ["b?"], is_path_regex=True)),
    ("white list path", lambda: WhiteList(cast("Any", None))),
]


@pytest.mark.parametrize(("field", "make"), WRONG)
def test_a_policy_that_cannot_be_is_refused_when_it_is_made(field: str, make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=field.replace("[", r"\[")) as refusal:
        make()
    assert isinstance(refusal.value, InvalidArgument)


def test_wildcards_are_texts_of_a_regular_expression_where_marked() -> None:
    row = WhiteList("a.*", ["b?"], is_path_regex=True, is_exclude_regex=True)
    assert row.to_dict() == {"path": "a.*", "excludePaths": ["b?"], "isPathRegex": True, "isExcludeRegex": True}


def test_a_policy_spoiled_after_it_was_made_is_not_sent() -> None:
    policy = SyncPolicy()
    policy.upload_policy.upload_mode = cast("Any", "Zip")
    with pytest.raises(InvalidArgument, match=r"uploadPolicy\.uploadMode"):
        policy_to_json(policy)
    policy.upload_policy.upload_mode = cast("Any", object())
    with pytest.raises(InvalidArgument, match="JSON"):
        policy_to_json(policy)


def test_paths_apart_from_an_archive_are_spelled_in_archive_mode_only() -> None:
    apart = UploadPolicy(archive_exclude_paths=["logs"])
    assert "archiveExcludePaths" not in apart.to_dict()
    apart.upload_mode = UploadMode.ARCHIVE
    assert apart.to_dict()["archiveExcludePaths"] == ["logs"]


def test_a_lifecycle_knows_its_days() -> None:
    assert [life.days for life in Lifecycle] == [1, 3, 5, 10, 15, 30, 90, 180, 360, None]


def test_no_two_policies_share_a_list() -> None:
    first, second = SyncPolicy(), SyncPolicy()
    first.recycle_policy.paths.append("x")
    first.bw_list.white_lists.append(WhiteList("y"))
    assert second == SyncPolicy()


def test_a_context_sync_is_made_and_changed_as_the_sdks_do() -> None:
    plain = ContextSync("ctx", "/p")
    assert plain == ContextSync.new("ctx", "/p")
    assert plain.with_policy(FULL) is plain
    assert dataclasses.astuple(ContextSync.new("c", "/p", None, beta_wait_for_completion=False)) == (
        "c",
        "/p",
        None,
        False,
    )


def test_agentbay_is_told_of_each_row_whether_it_is_a_pattern() -> None:
    rows = BWList([WhiteList("/s.*", ["a"], is_path_regex=True), WhiteList("/d", ["b"])])
    text = policy_to_json(SyncPolicy(bw_list=rows))
    marked = json.loads(with_all_marks(text))
    assert marked["bwList"]["whiteLists"] == [
        {"path": "/s.*", "excludePaths": ["a"], "isPathRegex": True, "isExcludeRegex": False},
        {"path": "/d", "excludePaths": ["b"], "isPathRegex": False, "isExcludeRegex": False},
    ]
    assert marked | {"bwList": None} == json.loads(text) | {"bwList": None}
    for other in ("{}", "[]", "{", '{"bwList": {"whiteLists": []}, "more": 1}', '{"bwList": 5}'):
        assert with_all_marks(other) == other
