"""What every store method that writes has to do."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module

import pytest

import ctx_mcp.store
from ctx_mcp.store.database import TransactionUndone, retried

MODULES = [
    import_module(f"ctx_mcp.store.{found.name}")
    for found in pkgutil.iter_modules(ctx_mcp.store.__path__)
    if not found.ispkg
]


def test_a_method_that_writes_is_done_again_when_the_engine_undid_it() -> None:
    writing = {
        method.__qualname__: hasattr(method, "__wrapped__")
        for module in MODULES
        for _, rows in inspect.getmembers(module, inspect.isclass)
        if rows.__module__ == module.__name__
        for _, method in inspect.getmembers(rows, inspect.isfunction)
        if {"_database", "write"} <= {*inspect.unwrap(method).__code__.co_names}
    }
    assert len(writing) > 30
    assert [name for name, is_retried in writing.items() if not is_retried] == []


def test_a_method_that_is_undone_each_time_says_so_in_the_end() -> None:
    tries: list[int] = []

    @retried
    def work() -> int:
        tries.append(1)
        if len(tries) < 4:
            raise TransactionUndone("undone")
        return len(tries)

    assert work() == 4

    @retried
    def never() -> None:
        tries.append(1)
        raise TransactionUndone("undone")

    tries.clear()
    with pytest.raises(TransactionUndone):
        never()
    assert len(tries) == 12
