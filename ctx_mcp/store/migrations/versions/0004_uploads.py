"""Presigned uploads to an object store, until a version is made of them; and whose turn it is to look for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_PATH = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "uploads",
        sa.Column("upload_key", sa.String(128), nullable=False),
        sa.Column("account", sa.String(255), nullable=False),
        sa.Column("context_id", sa.String(64), nullable=False),
        sa.Column("path", _PATH, nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("mark", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["context_id"], ["contexts.context_id"], name="fk_uploads_context_id"),
        sa.PrimaryKeyConstraint("upload_key", name="pk_uploads"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_uploads_context_id", "uploads", ["context_id", "expires_at"], unique=False)
    op.create_index("ix_uploads_expires_at", "uploads", ["expires_at"], unique=False)
    op.create_table(
        "turns",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("held_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_turns"),
    )
