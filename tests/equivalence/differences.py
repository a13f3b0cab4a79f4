"""Where an answer means something else to our clients than to the official SDK, and why. Everywhere else they agree.

A row is of a call where all three of cloud, variant and call are named in it; the tests hold that each such row is
true, so that none outlives its reason.
"""

from __future__ import annotations

from dataclasses import dataclass

STRICTER = "ours fails, the SDK tells of a success"
LOOSER = "ours tells of a success, the SDK fails"
OTHER = "ours reads something else"


@dataclass(frozen=True)
class Difference:
    kind: str
    clouds: tuple[str, ...]
    variants: tuple[str, ...]
    calls: tuple[str, ...]
    reason: str


BOTH = ("agb", "agentbay")
_GETS = ("get by name", "get by id", "create")
_URLS = ("get_file_upload_url", "get_file_download_url")
_NO_DATA = ("data null", "data missing", "data an empty object", "data an empty list")
_ODD_DATA = ("data a text", "rows that are none")
_UNEXPLAINED = ("success false without code", "success false without code and data")
_TRUTHY_AGB = (
    "list",
    *_GETS,
    "update",
    "delete",
    "clear_async",
    "get_clear_status",
    *_URLS,
    "delete_file",
    "list_files",
    "client.list",
    "get_labels",
    "info",
    "sync",
)
_TRUTHY_AGENTBAY = (
    *_TRUTHY_AGB,
    "client.get",
    "client.create",
    "get_status",
    "session.delete",
    "set_labels",
    "keep_alive",
    "list_files by token",
    "bind",
    "list_bindings",
)

DIFFERENCES = (
    Difference(STRICTER, ("agb",), ("success the text false",), _TRUTHY_AGB, "a text that says false is a denial"),
    Difference(STRICTER, ("agentbay",), ("success the text false",), _TRUTHY_AGENTBAY, "the same"),
    Difference(
        STRICTER,
        BOTH,
        _NO_DATA,
        (*_GETS, *_URLS),
        "a success without a context or a URL: there is nothing to go on with",
    ),
    Difference(
        STRICTER, ("agb",), (*_NO_DATA, *_ODD_DATA), ("get_clear_status",), "the same; a clear that is waited for"
    ),
    Difference(STRICTER, ("agb",), _ODD_DATA, (*_GETS, *_URLS), "the same"),
    Difference(
        STRICTER,
        BOTH,
        ("data with nulls", "data an object around the rows"),
        ("get by name", "create", *_URLS),
        "the same: a row without an id, a URL that is null (the SDK of AGB makes the text None of it)",
    ),
    Difference(
        STRICTER,
        ("agentbay",),
        ("data an object around the rows",),
        ("get by id", "get_clear_status"),
        "the same: an object without any field of a row",
    ),
    Difference(
        STRICTER, ("agentbay",), ("data an empty object", "data an empty list"), ("get_clear_status",), "the same"
    ),
    Difference(
        STRICTER,
        ("agentbay",),
        ("empty object", "first letters in the other case", "success false without code and data"),
        _GETS,
        "the same",
    ),
    Difference(
        STRICTER,
        ("agb",),
        (*_ODD_DATA, "data an object around the rows"),
        ("list_files",),
        "a folder that cannot be read is not empty: a sync would delete what it does not see",
    ),
    Difference(
        STRICTER,
        ("agb",),
        _ODD_DATA,
        ("info",),
        "a status that cannot be read is none; a wait would take it for the end",
    ),
    Difference(
        STRICTER,
        ("agentbay",),
        _UNEXPLAINED,
        ("clear_async", "info", "set_labels", "get_labels"),
        "a denial without a reason is a denial: the clear has not begun, the syncs may run",
    ),
    Difference(
        STRICTER,
        ("agentbay",),
        ("success false, nothing else changed", "failure", "failure with data", "failure without message"),
        ("set_labels", "get_labels"),
        "the SDK looks at no answer of these two; labels that were refused are not set",
    ),
    Difference(
        STRICTER,
        ("agentbay",),
        ("a json list", "a json text"),
        ("set_labels",),
        "the same, of what is no answer at all",
    ),
    Difference(
        STRICTER,
        ("agentbay",),
        ("json null",),
        ("list", *_GETS, "client.list", "session.delete", "set_labels", "get_labels", "info"),
        "null is no answer",
    ),
    Difference(
        LOOSER,
        ("agb",),
        ("success the text true",),
        ("client.get", "get_status", "session.delete", "set_labels", "keep_alive"),
        "the SDK has two rules for what is true; ours has one, which says no more than the service did",
    ),
    Difference(
        LOOSER,
        ("agentbay",),
        ("success missing", "success null"),
        ("clear_async", "get_clear_status"),
        "the code is `ok`, which the SDK takes for that of an error",
    ),
    Difference(LOOSER, ("agb",), ("data with nulls",), ("info",), "a status that is null is none, as of AgentBay"),
    Difference(
        LOOSER, BOTH, _ODD_DATA, ("client.get",), "the session is there; only about its machine nothing is said"
    ),
    Difference(LOOSER, ("agentbay",), _ODD_DATA, ("get_status",), "the same; its state is then empty"),
    Difference(LOOSER, ("agentbay",), _ODD_DATA, ("get_labels",), "no labels, as of AGB; the SDK breaks"),
    Difference(
        OTHER,
        ("agb",),
        (
            "documented",
            "extra fields",
            "no request id",
            "no code",
            "empty code",
            *_NO_DATA,
            "data with nulls",
            *_ODD_DATA,
            "success the text true",
        ),
        ("list",),
        "the SDK cannot read token and total beside rows, where the service puts them",
    ),
    Difference(
        OTHER,
        ("agb",),
        ("data null", "data missing", "data an empty object"),
        ("list_files",),
        "ours tells the count that is told",
    ),
    Difference(
        OTHER,
        BOTH,
        ("data with nulls",),
        ("list_files",),
        "an entry of ours has a type and a state: what is not told of them is FILE and ready",
    ),
    Difference(OTHER, ("agentbay",), ("data with nulls",), ("list_files by token",), "the same"),
    Difference(
        OTHER,
        ("agentbay",),
        ("data with nulls",),
        ("get by id", "get_clear_status"),
        "a row that leaves out its id is of the context that was asked for, as in AGB's SDK",
    ),
)
