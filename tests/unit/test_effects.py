"""The one table that tells reads from changes."""

from __future__ import annotations

import pytest

from ctx_mcp.domain.access import ALL_SCOPES, Scope, with_included
from ctx_mcp.domain.models import TextEdit
from ctx_mcp.wire import operations as ops
from ctx_mcp.wire.effects import EFFECTS, Effect, effect_of, scope_for
from ctx_mcp.wire.operations import OPERATIONS, Operation
from ctx_mcp.wire.repeating import RULES, Repeating


class Unheard(Operation[None]):
    """An operation that the table was told nothing of."""


def test_every_operation_is_classified_and_no_other() -> None:
    assert set(EFFECTS) == set(OPERATIONS)


def test_an_operation_nobody_told_of_counts_as_a_change() -> None:
    assert effect_of(Unheard()) is Effect.CHANGES_CONTEXTS
    assert scope_for(Unheard()) is Scope.WRITE


def test_what_changes_a_context_is_no_read() -> None:
    changing = {kind for kind in OPERATIONS if "changed_contexts" in vars(kind)}
    assert changing
    assert Effect.READS not in {EFFECTS[kind] for kind in changing}


def test_a_read_may_always_be_sent_again() -> None:
    for kind, effect in EFFECTS.items():
        rule = RULES[kind]
        if effect in (Effect.READS, Effect.READS_ACCOUNT):
            assert isinstance(rule, Repeating), kind
            assert rule.is_safe, kind


@pytest.mark.parametrize(
    ("operation", "scope"),
    [
        (ops.GetContext(name="a"), Scope.READ),
        (ops.GetContext(name="a", create=True), Scope.WRITE),
        (ops.EditFile("ctx-1", "/f", (TextEdit("a", "b"),), dry_run=True), Scope.READ),
        (ops.EditFile("ctx-1", "/f", (TextEdit("a", "b"),)), Scope.WRITE),
        (ops.GetFileDownloadUrl("ctx-1", "/f"), Scope.READ),
        (ops.GetFileUploadUrl("ctx-1", "/f"), Scope.WRITE),
        (ops.CreateSession(), Scope.WRITE),
        (ops.GetAccount(), Scope.ADMIN),
        (ops.ListKeys(), Scope.ADMIN),
        (ops.CreateKey(), Scope.ADMIN),
        (ops.RotateKey("key-1"), Scope.ADMIN),
        (ops.RevokeKey("key-1"), Scope.ADMIN),
        (ops.ListAuditEntries(), Scope.ADMIN),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_scope_goes_by_what_the_call_says(operation: Operation[object], scope: Scope) -> None:
    assert scope_for(operation) is scope


@pytest.mark.parametrize(
    ("given", "held"),
    [((), frozenset[Scope]()), ((Scope.READ,), {Scope.READ}), ((Scope.WRITE,), {Scope.READ, Scope.WRITE})],
)
def test_a_scope_includes_those_before_it(given: tuple[Scope, ...], held: frozenset[Scope]) -> None:
    assert with_included(given) == held
    assert with_included([Scope.ADMIN, *given]) == ALL_SCOPES
