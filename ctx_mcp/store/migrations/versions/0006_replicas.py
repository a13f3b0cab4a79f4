"""Whose machine a session's folders are on; and which programs can read what a later migration made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "format",
        sa.Column("revision", sa.String(length=32), nullable=False),
        sa.Column("oldest_reader", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_format")),
    )
    for table in ("sessions", "tasks"):
        op.add_column(table, sa.Column("home", sa.String(length=64), nullable=True))
