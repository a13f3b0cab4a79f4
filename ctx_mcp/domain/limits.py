"""The numbers that bound a context service. One value, handed down through a service; clients go by the defaults."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one service. Sizes in bytes, times in seconds."""

    max_name_chars: int = 255
    max_path_bytes: int = 1024
    max_segment_bytes: int = 255
    max_inline_bytes: int = 64 * KIB
    max_file_bytes: int = 5 * GIB
    max_read_bytes: int = 8 * MIB
    """Most bytes one `ReadFile` answers; a larger file is read in pieces or by URL."""
    max_write_bytes: int = 8 * MIB
    """Largest content of one `WriteFile`; a larger file goes by upload URL."""
    max_edit_bytes: int = 32 * MIB
    """Largest file that `EditFile` changes, and the largest that it makes."""
    max_edits: int = 100
    """Most texts that one `EditFile` replaces."""
    max_edit_places: int = 1_000_000
    """At how many places it replaces them, all together: each takes memory and time."""
    max_tree_files: int = 100_000
    """Most files that one move, restore or deletion of a folder changes."""
    default_list_count: int = 10
    max_list_count: int = 100
    default_page_size: int = 50
    max_page_size: int = 10_000
    max_counted_files: int = 1_000_000
    """How far from an end of its folder, or from a page read before, a page can be asked for by its number."""
    url_ttl_s: int = 3600
    retention_s: int = 7 * 24 * 3600
    """How long a replaced, deleted or cleared version, and a deleted context, can still be brought back."""
    audit_retention_s: int = 90 * 24 * 3600
    """How long the audit log tells of a call."""
    max_account_rows: int = 1000
    """Most keys, or entries of the audit log, that one page tells of."""
    max_key_name_chars: int = 255
    max_key_lifetime_s: int = 99_999 * 24 * 3600
    orphan_age_s: int = 24 * 3600
    """Age at which stored bytes that no row names are taken for the rest of a crash."""
    lease_s: float = 4.0
    """How long a task stays with a process that says nothing; a clear left by a killed one goes on after it."""
    session_idle_s: int = 1800
    """After how long without any call a session of a service is released, unless it was made with a time of its own."""
    max_bindings: int = 100
    """Most bindings of one session."""
    max_sync_notes: int = 10_000
    """Most notes kept of one sync; counts go on."""


DEFAULT_LIMITS = Limits()
