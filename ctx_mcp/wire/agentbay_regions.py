"""Where the AgentBay cloud answers, by region. Source: wuying-agentbay-sdk 0.22.3, `_common/config.py`."""

from __future__ import annotations

DEFAULT_REGION = "cn-hangzhou"
_PRE = "pre-"
_PRE_HOSTS = {"ap-southeast-1": "wuyingai-pre.ap-southeast-1.aliyuncs.com"}
"""Hosts before release that do not follow the pattern."""


def resolve_place(region: str | None, endpoint: str | None) -> tuple[str, str]:
    """Return the endpoint to call, and the region that requests name.

    An endpoint says nothing of the region: what is made there is made in the one given, or else in the default one.
    """
    chosen = region or DEFAULT_REGION
    return endpoint or host_of(chosen), actual_region(chosen)


def host_of(region: str) -> str:
    """Return the host of a region's API; `pre-` before a region means the one before release."""
    if not region.startswith(_PRE):
        return f"agentbay.{region}.aliyuncs.com"
    actual = region.removeprefix(_PRE)
    return _PRE_HOSTS.get(actual, f"agentbay-pre.{actual}.aliyuncs.com")


def actual_region(region: str) -> str:
    """Return the region as requests name it."""
    return region.removeprefix(_PRE)
