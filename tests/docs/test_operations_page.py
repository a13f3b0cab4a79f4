"""docs/operations.md says what metrics there are, what the logs hold and what health tells, and nothing else."""

from __future__ import annotations

import re

from ctx_mcp.service.health import ALIVE_PATH, DRAINING, READY_PATH
from ctx_mcp.telemetry.metrics import METRICS
from ctx_mcp.telemetry.steps import Layer
from tests.docs.test_docs import page, section, table_rows

TEXT = page("operations.md")


def test_every_metric_is_described_and_no_other() -> None:
    rows = [row for row in table_rows(section(TEXT, "Metrics")) if row[0] != "metric"]
    described = [
        (name.strip("`"), kind, tuple(re.findall(r"`(\w+)`", labels)), text) for name, kind, labels, text in rows
    ]
    told = [(each.full_name, str(each.kind), each.labels, each.meaning) for each in METRICS]
    assert [(*row[:3], row[3].rstrip("¹")) for row in described] == told


def test_metrics_named_elsewhere_in_the_page_exist() -> None:
    names = {each.full_name for each in METRICS}
    assert set(re.findall(r"`(ctx_mcp_\w+)`", TEXT)) <= names


def test_the_paths_and_words_of_health_are_described() -> None:
    text = section(TEXT, "Health")
    assert [row[0].strip("`") for row in table_rows(text)] == [
        *("path", ALIVE_PATH, READY_PATH),
        *("failing", "database", "objects", DRAINING),
    ]


def test_every_layer_that_makes_spans_is_shown() -> None:
    text = section(TEXT, "Traces").replace("\n", " ")
    assert {layer for layer in Layer if f"`{layer} " not in text} == set()
