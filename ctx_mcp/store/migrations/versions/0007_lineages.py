"""Of which history of its store a synced context was at the last sync, where another service keeps it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
oldest_reader = "0006"


def upgrade() -> None:
    op.add_column("replicas", sa.Column("lineage", sa.String(length=64), nullable=True))
