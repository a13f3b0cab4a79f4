"""How long background work rests behind a step."""

from __future__ import annotations

import pytest

from ctx_mcp.service.jobs import rest_after_s


@pytest.mark.parametrize(("step_s", "rest_s"), [(0.0, 0.0), (0.01, 0.05), (0.2, 1.0), (60.0, 1.0)])
def test_work_rests_behind_a_step_but_not_for_an_outage(step_s: float, rest_s: float) -> None:
    """A step that a database held up for a minute would else keep its task, with nothing done, for five."""
    assert rest_after_s(step_s) == pytest.approx(rest_s)
