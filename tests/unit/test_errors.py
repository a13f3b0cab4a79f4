"""The tree of errors: codes are the API, and each class survives both wires."""

from __future__ import annotations

import pytest

import ctx_mcp.domain.errors as errors_module
from ctx_mcp.domain.error_codes import error_from_code, errors_by_code
from ctx_mcp.domain.errors import AGBError, AgentBayError, RemoteError
from ctx_mcp.wire.agb import AgbDialect
from ctx_mcp.wire.agentbay import AgentBayDialect
from ctx_mcp.wire.dialect import Dialect
from ctx_mcp.wire.native import NativeDialect
from ctx_mcp.wire.operations import DeleteContext

CLASSES = [kind for kind in vars(errors_module).values() if isinstance(kind, type) and issubclass(kind, AGBError)]
KINDS = sorted(set(CLASSES) - {RemoteError}, key=lambda kind: kind.code)
DIALECTS: list[Dialect] = [AgbDialect(), AgentBayDialect(), NativeDialect()]


def test_codes_are_unique() -> None:
    assert len({kind.code for kind in set(CLASSES)}) == len(set(CLASSES))
    assert set(errors_by_code().values()) == set(CLASSES)


def test_every_class_is_drawn_in_the_tree() -> None:
    drawn = errors_module.__doc__ or ""
    for kind in set(CLASSES) - {AGBError, RemoteError}:
        assert f" {kind.__name__} " in drawn
        assert f" {kind.code}\n" in drawn


def test_both_clouds_have_the_same_base_error() -> None:
    assert AgentBayError is AGBError


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("kind", KINDS, ids=[kind.code for kind in KINDS])
def test_an_error_is_the_same_on_the_other_side(dialect: Dialect, kind: type[AGBError]) -> None:
    answer = dialect.spell_error(kind("why é", request_id="R-1"))
    # AgentBay's SDK reads code and request id of a failure only where the status is 200.
    assert 400 <= answer.status < 600 or (dialect.name, answer.status) == ("agentbay", 200)
    with pytest.raises(AGBError) as failure:
        dialect.read_reply(DeleteContext("ctx-1"), answer.status, answer.headers, answer.body)
    assert type(failure.value) is kind
    assert (failure.value.message, failure.value.request_id, failure.value.error_code) == ("why é", "R-1", kind.code)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_an_unknown_code_is_kept(dialect: Dialect) -> None:
    answer = dialect.spell_error(RemoteError("why", request_id="R-1", remote_code="Quota.Moon"))
    with pytest.raises(RemoteError) as failure:
        dialect.read_reply(DeleteContext("ctx-1"), answer.status, answer.headers, answer.body)
    assert failure.value.error_code == "Quota.Moon"


def test_an_error_without_text_is_called_by_its_class() -> None:
    assert str(errors_module.ContextNotFound()) == "ContextNotFound"
    assert error_from_code("", "why").error_code == "Remote.Error"
