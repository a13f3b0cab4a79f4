"""The official conformance suite finds nothing against the product itself but what is written down with its reason.

The suite was made for SDKs: most of its scenarios drive fixtures, with which test_conformance_whole.py runs them.
Here is what ships, started as users start it: the handshake, its own lists, resources and caching, headers,
subscriptions, completion and DNS rebinding must hold without a failure, a warning or a skipped check.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from ctx_mcp.server.tasks import EXTENSION
from tests.end_to_end.conformance import VERSIONS, Known, assert_known, end_runs, start_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.end_to_end.conformance import Run
    from tests.end_to_end.conftest import Serve
    from tests.npm_tools import NpmTools

KNOWN: Known = {
    "needs a fixture tool": {
        "elicitation-sep1034-defaults/elicitation-sep1034-general": "test_elicitation_sep1034_defaults",
        "elicitation-sep1330-enums/elicitation-sep1330-general": "test_elicitation_sep1330_enums",
        "json-schema-2020-12/json-schema-2020-12-tool-found": "json_schema_2020_12_tool",
        "tools-call-audio/tools-call-audio": "test_audio_content",
        "tools-call-elicitation/tools-call-elicitation": "test_elicitation",
        "tools-call-embedded-resource/tools-call-embedded-resource": "test_embedded_resource",
        "tools-call-error/tools-call-error": "test_error_handling",
        "tools-call-image/tools-call-image": "test_image_content",
        "tools-call-mixed-content/tools-call-mixed-content": "test_multiple_content_types",
        "tools-call-sampling/tools-call-sampling": "test_sampling",
        "tools-call-simple-text/tools-call-simple-text": "test_simple_text",
        "tools-call-with-progress/tools-call-with-progress": "test_tool_with_progress",
        "server-stateless/sep-2575-http-server-no-independent-requests-on-stream": "test_streaming_elicitation",
        "server-stateless/sep-2575-missing-capability-http-400": "test_missing_capability",
        "server-stateless/sep-2575-server-no-log-without-loglevel": "test_logging_tool",
        "server-stateless/sep-2575-server-rejects-undeclared-capability": "test_missing_capability",
    },
    "needs a fixture resource": {
        "resources-read-binary/resources-read-binary": "test://static-binary",
        "resources-read-text/resources-read-text": "test://static-text",
        "resources-subscribe/resources-subscribe": "test://watched-resource",
        "resources-templates-read/resources-templates-read": "test://template/123/data",
        "resources-unsubscribe/resources-unsubscribe": "test://watched-resource",
    },
    "needs a fixture prompt": {
        "prompts-get-embedded-resource/prompts-get-embedded-resource": "test_prompt_with_embedded_resource",
        "prompts-get-simple/prompts-get-simple": "test_simple_prompt",
        "prompts-get-with-args/prompts-get-with-args": "test_prompt_with_arguments",
        "prompts-get-with-image/prompts-get-with-image": "test_prompt_with_image",
    },
    "needs fixture tools and prompts that ask the client for more input; none of ours does": {
        "input-required-result-basic-elicitation/sep-2322-elicitation-incomplete": "input_required_result",
        "input-required-result-basic-list-roots/sep-2322-list-roots-incomplete": "input_required_result",
        "input-required-result-basic-sampling/sep-2322-sampling-incomplete": "input_required_result",
        "input-required-result-capability-check/sep-2322-respect-client-capabilities": "input_required_result",
        "input-required-result-ignore-extra-params/sep-2322-ignore-unexpected-params": "input_required_result",
        "input-required-result-missing-input-response/sep-2322-missing-response-rerequests": "JSON-RPC error instead",
        "input-required-result-multi-round/sep-2322-multi-round-r1": "Expected InputRequiredResult",
        "input-required-result-multiple-input-requests/sep-2322-multiple-inputs-incomplete": "input_required_result",
        "input-required-result-non-tool-request/sep-2322-non-tool-incomplete": "input_required_result_prompt",
        "input-required-result-request-state/sep-2322-request-state-incomplete": "input_required_result",
        "input-required-result-result-type/sep-2322-result-type-included": "input_required_result",
        "input-required-result-tampered-state/sep-2322-reject-tampered-state": "could not get initial",
    },
    "needs a fixture tool with x-mcp-header parameters; ours have none": {
        "http-custom-header-server-validation/sep-2243-server-decode-base64": "no tool with x-mcp-header",
        "http-custom-header-server-validation/sep-2243-server-no-xmcp-tool": "no tool with x-mcp-header",
        "http-custom-header-server-validation/sep-2243-server-reject-invalid-param-chars": "no tool with x-mcp-header",
        "http-custom-header-server-validation/sep-2243-server-reject-param-mismatch": "no tool with x-mcp-header",
        "http-custom-header-server-validation/sep-2243-server-validate-param-match": "no tool with x-mcp-header",
    },
    "needs fixture tools that change the lists; ours never change": {
        "server-stateless/sep-2575-server-sends-prompts-list-changed-on-subscription": "no notifications/prompts",
        "server-stateless/sep-2575-server-sends-tools-list-changed-on-subscription": "no notifications/tools",
    },
    "logging is deprecated by 2026-07-28 and not offered; logs go to stderr": {
        "logging-set-level/logging-set-level": "Method not found",
        "tools-call-with-logging/tools-call-with-logging": "Method not found",
    },
    "streams are not resumable: no call is long, and jobs are polled by their id": {
        "server-sse-polling/server-sse-priming-event": "recommended for resumability",
        "server-sse-polling/server-sse-retry-field": "recommended for controlling",
    },
}


@pytest.fixture(scope="module")
def url(npm: NpmTools, serve: Serve) -> str:
    """A server that has a context: checks on resources/read pick a resource from the list, or are skipped."""
    url = serve("http")
    arguments = ("--tool-name", "context_create", "--tool-args-json", '{"name": "conforming"}')
    npm.ask_inspector(url, "--method", "tools/call", *arguments)
    return url


@pytest.fixture(scope="module")
def runs(npm: NpmTools, url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    started = start_runs(npm, url, VERSIONS, tmp_path_factory.mktemp("conformance"))
    yield started
    end_runs(started)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_server_conforms(version: str, runs: dict[str, Run]) -> None:
    assert_known(runs[version].finish(), KNOWN)


def test_no_extension_is_declared_whose_scenarios_do_not_run(url: str) -> None:
    """The scenarios of the tasks extension run on the fixtures; those of others (skills) are not asked for."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "ctx-mcp-test", "version": "1"},
    }
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "server/discover",
    }
    question = {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": meta}}
    answer = httpx.post(url, json=question, headers=headers, timeout=60, trust_env=False)
    assert answer.json()["result"]["capabilities"]["extensions"] == {EXTENSION: {}}
