"""Versions of a context in the order of time: its history, and what stood at a moment."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_versions_context_created", "versions", ["context_id", "created_at", "version_id"], unique=False)
