"""Alembic's environment and the migrations, run by `Database.open` when the stored revision differs."""
