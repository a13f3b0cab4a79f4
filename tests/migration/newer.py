"""`ctx-mcp` as later versions of it might be: one whose format only adds, and one that then takes away. Not a test.

python -m tests.migration.newer adding|removing ARGUMENTS…
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from ctx_mcp.cli.main import main
from ctx_mcp.store import migrating
from ctx_mcp.store.schema import SCHEMA_REVISION

ADDING, REMOVING = "9001", "9002"
_SCRIPTS = {
    ADDING: f'''
from alembic import op
import sqlalchemy as sa
revision, down_revision, oldest_reader = "{ADDING}", "{SCHEMA_REVISION}", "{SCHEMA_REVISION}"
def upgrade():
    op.add_column("contexts", sa.Column("colour", sa.String(16), server_default="blue", nullable=False))
    op.create_table("colours", sa.Column("colour", sa.String(16), primary_key=True))
''',
    REMOVING: f'''
from alembic import op
revision, down_revision = "{REMOVING}", "{ADDING}"
def upgrade():
    op.drop_column("contexts", "last_used_at")
''',
}


def become(kind: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Be a program whose newest migration is of this kind, as long as `patch`; `folder` is for its migrations."""
    migrations = folder / "migrations"
    shutil.copytree(migrating.MIGRATIONS, migrations)
    newest = {"adding": ADDING, "removing": REMOVING}[kind]
    for revision, script in _SCRIPTS.items():
        if revision <= newest:
            (migrations / "versions" / f"{revision}_newer.py").write_text(script)
    patch.setattr(migrating, "MIGRATIONS", migrations)
    patch.setattr(migrating, "SCHEMA_REVISION", newest)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patched:
        become(sys.argv[1], Path(place), patched)
        code = main(sys.argv[2:])
    sys.exit(code)
