"""The prefix of a binding in its context, as the clouds' protocols say it: `mappingPolicy.path` of the policy."""

from __future__ import annotations

import json

from ctx_mcp.domain.errors import InvalidArgument
from ctx_mcp.domain.sessions import BindingRequest
from ctx_mcp.wire.json_values import as_object, as_rows, as_text, parse_object


def with_mapping(binding: BindingRequest, text: str) -> str:
    """Return a policy's text, with the binding's prefix in it where that is not the mount path.

    Raises:
        InvalidArgument: the policy is no JSON object, or it maps to another prefix.
    """
    if binding.context_path is None:
        return text
    policy = parse_object(text)
    if policy is None:
        raise InvalidArgument(f"the policy of {binding.path!r} must be a JSON object")
    mapping = as_object(policy.get("mappingPolicy"))
    mapped = None if mapping is None else mapping.get("path")
    if mapped == binding.context_path or (mapped in (None, "") and binding.context_path == binding.path):
        return text
    if mapped not in (None, ""):
        raise InvalidArgument(
            f"the binding of {binding.path!r} has the prefix {binding.context_path!r} in the context, but its policy "
            f"maps it to {mapped!r}; give one of the two"
        )
    return json.dumps({**policy, "mappingPolicy": {"path": binding.context_path}})


def with_all_marks(text: str) -> str:
    """Return a policy's text, where each row of the white list says of both its paths whether they are patterns.

    AgentBay's SDK always says it, AGB's never, so that what a policy itself says is only what is set.
    """
    policy = parse_object(text) or {}
    bw_list = as_object(policy.get("bwList")) or {}
    rows = as_rows(bw_list.get("whiteLists"))
    if not rows:
        return text
    marked = [{"isPathRegex": False, "isExcludeRegex": False} | row for row in rows]
    return json.dumps({**policy, "bwList": {**bw_list, "whiteLists": marked}})


def mapped_path(text: str | None) -> str | None:
    """Return the prefix that a policy's text maps to, if it does."""
    mapping = as_object((parse_object(text or "") or {}).get("mappingPolicy")) or {}
    return as_text(mapping.get("path")) or None
