"""The MCP server: protocol requests in, tools and resources out. Built on the SDK's low-level Server.

The low-level Server leaves schemas, errors and cursors to us, which the high-level one decides in ways that hosts
and checkers object to, and costs less per call. Source: docs/adr/0007.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import mcp_types
from mcp.server.caching import CacheHint
from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.models import InitializationOptions
from mcp.shared.exceptions import MCPError
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from ctx_mcp import __version__
from ctx_mcp.client.async_service import AsyncContextService
from ctx_mcp.client.transport import acting_for
from ctx_mcp.domain.errors import AccessDenied, AGBError, InvalidArgument, ReadOnly
from ctx_mcp.server import completions, prompts, resources
from ctx_mcp.server.access import GuardedTransport
from ctx_mcp.server.account_access import CallerGuard, act_as_caller, may_write
from ctx_mcp.server.account_subscriptions import AccountSubscriptions
from ctx_mcp.server.boundary import fence_for
from ctx_mcp.server.callers import actor_of
from ctx_mcp.server.confirmation import Confirmation
from ctx_mcp.server.errors import error_result, lacking_result, unexpected_result, validation_result
from ctx_mcp.server.instructions import instructions_for
from ctx_mcp.server.offer import Offer
from ctx_mcp.server.progress import Progress
from ctx_mcp.server.request_state import RequestStates, Secret, own_secret
from ctx_mcp.server.task_jobs import ServiceTasks
from ctx_mcp.server.tasks import TasksExtension, TaskSource
from ctx_mcp.server.tool import FACTS_KEY, Answer, AnyTool
from ctx_mcp.server.tool_calls import answering_tool
from ctx_mcp.server.tools import TOOLS
from ctx_mcp.settings import DEFAULT_SERVER_SETTINGS, ServerSettings
from ctx_mcp.telemetry.calls import note_outcome

Request = ServerRequestContext[Any, Any]
_EMPTY = mcp_types.EmptyResult()
_MAX_STRUCTURED_CHARS = 4_000
_STORED_TTL_MS = 1_000
_NO_SUBSCRIPTIONS = (
    "this server keeps no sessions, so that any of several may answer, and could not tell of changes; read the "
    "resource again, or use subscriptions/listen of protocol 2026-07-28"
)


class ContextServer(Server[dict[str, Any]]):
    """One MCP server over one context service, for any number of connections."""

    def __init__(
        self,
        service: AsyncContextService,
        tools: Sequence[AnyTool] = TOOLS,
        *,
        settings: ServerSettings = DEFAULT_SERVER_SETTINGS,
        secret: Secret | None = None,
        tasks: TaskSource | None = None,
        backend: str = "",
        asks_callers: bool = False,
        folder_accounts: Collection[str] = (),
        keeps_sessions: bool = True,
    ) -> None:
        """Make a server.

        Args:
            tools: all there are; the settings and what the backend can do say which of them are offered.
            backend: what users call it.
            keeps_sessions: whether this process remembers legacy clients between two requests; else it promises them
                nothing that takes a memory. The modern era never needs one.
            tasks: where hosts that follow tasks themselves find them; the service's own where none is given.
            secret: keys for what clients carry between two calls; this process's own where none is given.
            asks_callers: whether it answers only requests whose callers the gate in front of it has identified.
            folder_accounts: of such callers, the accounts that may sync folders of this machine.

        Raises:
            InvalidArgument: the settings name what there is not.
        """
        self._offer = Offer(tools, settings, service.capabilities, backend=backend)
        # To those who may only read, the server looks as one that is read-only by its settings.
        reading = Offer(
            tools, replace(settings, read_only=True), service.capabilities, backend=backend, may_be_empty=True
        )
        self._reading_offer = reading
        self._definitions = _definitions(self._offer)
        self._reading_definitions = _definitions(reading)
        self._reading_instructions = instructions_for(reading, read_only=True)
        self._input_schemas = {definition.name: definition.input_schema for definition in self._definitions}
        self._instructions = instructions_for(self._offer, read_only=settings.read_only)
        self._confirmation = Confirmation(settings.confirm, RequestStates(secret or own_secret()))
        self.guard: GuardedTransport | None = None
        """What holds the tools to read-only; None where everything may be changed."""
        if settings.read_only or settings.read_only_contexts:
            self.guard = GuardedTransport(service.transport, settings)
            service = AsyncContextService(self.guard)
        if asks_callers:
            service = AsyncContextService(CallerGuard(service.transport, folder_accounts))
        self._service = service
        self._keeps_sessions = keeps_sessions
        self.subscriptions = AccountSubscriptions(service)
        self._tasks = TasksExtension(
            tasks or ServiceTasks(service, partial(_result, is_large=False)), tuple(self._offer.tools.values())
        )
        # What callers of one scope are offered is not for the caches of those of another.
        offered: Literal["private", "public"] = "private" if asks_callers else "public"
        super().__init__(
            "ctx-mcp",
            version=__version__,
            title="ctx-mcp",
            instructions=self._instructions,
            cache_hints={
                "tools/list": CacheHint(ttl_ms=3_600_000, scope=offered),
                "prompts/list": CacheHint(ttl_ms=3_600_000, scope="public"),
                "resources/templates/list": CacheHint(ttl_ms=3_600_000, scope="public"),
                "server/discover": CacheHint(ttl_ms=3_600_000, scope=offered),
                # What is stored may change at any moment, and is its owner's alone.
                "resources/list": CacheHint(ttl_ms=_STORED_TTL_MS, scope="private"),
                "resources/read": CacheHint(ttl_ms=_STORED_TTL_MS, scope="private"),
            },
            # Else the SDK lists all tools with every call over HTTP, in order to hold its headers against one of them.
            get_tool_input_schema=self._input_schema,
            on_list_tools=self._list_tools,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read_resource,
            on_subscribe_resource=self._subscribe,
            on_unsubscribe_resource=self._unsubscribe,
            on_subscriptions_listen=self.subscriptions.listen,
            on_list_prompts=self._list_prompts,
            on_get_prompt=self._get_prompt,
            on_completion=self._complete,
        )
        self.add_request_handler("tools/call", mcp_types.CallToolRequestParams, self._tasks.promote(self._call_tool))
        self._tasks.serve(self)
        self.add_request_handler("server/discover", mcp_types.RequestParams, self._discover)
        self.add_notification_handler("notifications/initialized", mcp_types.NotificationParams, self._greet)
        # The SDK's tracing costs a tenth of a call and goes nowhere: no exporter is ever configured here.
        self.middleware.clear()
        if asks_callers:
            self.middleware.append(act_as_caller)

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        """Promise legacy clients list-changed notices, and subscriptions, where there are sessions to send them to.

        The streamable HTTP transport asks without options.
        """
        options = notification_options or NotificationOptions(
            prompts_changed=self._keeps_sessions,
            resources_changed=self._keeps_sessions,
            tools_changed=self._keeps_sessions,
        )
        told = super().create_initialization_options(options, experimental_capabilities, extensions)
        if not self._keeps_sessions and told.capabilities.resources is not None:
            told.capabilities.resources.subscribe = False
        return told if may_write() else told.model_copy(update={"instructions": self._reading_instructions})

    @property
    def reading_tools(self) -> Collection[str]:
        """The tools that a caller may use who may only read."""
        return self._reading_offer.tools.keys()

    @property
    def server_info_stamp(self) -> dict[str, Any]:
        """What every modern result says of this server: flat, so that it needs no deep copy for each call."""
        return {"name": self.name, "title": self.title, "version": self.version}

    async def _discover(self, ctx: Request, _: mcp_types.RequestParams | None) -> mcp_types.DiscoverResult:
        return mcp_types.DiscoverResult(
            supported_versions=[*MODERN_PROTOCOL_VERSIONS, *reversed(HANDSHAKE_PROTOCOL_VERSIONS)],
            # Not among `Server.extensions`, which legacy hosts would be told of too.
            capabilities=self.get_capabilities(
                protocol_version=ctx.protocol_version, extensions=self._tasks.settings()
            ),
            instructions=self._instructions if may_write() else self._reading_instructions,
        )

    async def _greet(self, ctx: Request, _: mcp_types.NotificationParams | None) -> None:
        if self._keeps_sessions:
            self.subscriptions.greet(ctx.session)

    async def _list_tools(
        self, _: Request, params: mcp_types.PaginatedRequestParams | None
    ) -> mcp_types.ListToolsResult:
        _refuse_cursor(params)
        return mcp_types.ListToolsResult(tools=self._definitions if may_write() else self._reading_definitions)

    def _input_schema(self, tool_name: str) -> dict[str, Any] | None:
        return self._input_schemas.get(tool_name)

    async def _call_tool(self, ctx: Request, params: mcp_types.CallToolRequestParams) -> HandlerResult:
        offer = self._offer if may_write() else self._reading_offer
        tool = offer.tools.get(params.name)
        if tool is None:
            return self._refuse_tool(params.name)
        with answering_tool(ctx, tool.name):
            return await self._do_tool(ctx, params, tool, offer)

    async def _do_tool(
        self, ctx: Request, params: mcp_types.CallToolRequestParams, tool: AnyTool, offer: Offer
    ) -> HandlerResult:
        try:
            with acting_for(actor_of(ctx, tool.name)):
                answer = await self._answer(ctx, params, tool)
        except ValidationError as error:
            note_outcome(InvalidArgument())
            return validation_result(tool, error)
        except AGBError as error:
            note_outcome(error)
            return error_result(error, offer)
        except MCPError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: the cause goes to the log, a fixed text to the model
            note_outcome(error)
            return unexpected_result(tool.name, error)
        if isinstance(answer, mcp_types.InputRequiredResult):
            return answer
        if tool.changes_list and not answer.is_unchanged:
            self.subscriptions.list_changed()
        await self.subscriptions.settle()
        return _result(answer, is_large=tool.is_large)

    async def _answer(
        self, ctx: Request, params: mcp_types.CallToolRequestParams, tool: AnyTool
    ) -> Answer | mcp_types.InputRequiredResult:
        """Do what a tool does, or return what must be answered before."""
        arguments = tool.accept(params.arguments)
        is_asked = self._confirmation.is_wanted and not self._confirmation.is_given(ctx, arguments)
        if tool.confirms is not None and is_asked:
            question = await tool.confirms(self._service, arguments, self._confirmation.is_for_all)
            if question is not None:
                if self.guard is not None:
                    await self.guard.demand_writable(question.context_id)
                unanswered = await self._confirmation.ask(ctx, params, arguments, question)
                if unanswered is not None:
                    return unanswered
                # Its name may be another context's by now; the answer is about this one.
                arguments = arguments.model_copy(update={"context_id": question.context_id})
        return await tool.answer(self._service, arguments, Progress(ctx.session.report_progress))

    def _refuse_tool(self, name: str) -> mcp_types.CallToolResult:
        if name in self._offer.tools:
            denied = AccessDenied(f"{name} changes contexts; the key or token of this call has not the scope 'write'")
            return error_result(denied, self._reading_offer)
        if (need := self._offer.lacking.get(name)) is not None:
            return lacking_result(name, need, self._offer)
        if name in self._offer.withheld:
            error = ReadOnly(f"{name} changes contexts, and this server is read-only by its settings")
            return error_result(error, self._offer)
        if name in self._offer.hidden:
            raise MCPError(
                mcp_types.INVALID_PARAMS, f"the tool {name!r} is not offered by this server's settings; see tools/list"
            )
        raise MCPError(mcp_types.INVALID_PARAMS, f"there is no tool {name[:100]!r}; tools/list names them")

    async def _list_resources(
        self, _: Request, params: mcp_types.PaginatedRequestParams | None
    ) -> mcp_types.ListResourcesResult:
        return await resources.list_resources(self._service, params.cursor if params else None)

    async def _list_templates(
        self, _: Request, params: mcp_types.PaginatedRequestParams | None
    ) -> mcp_types.ListResourceTemplatesResult:
        _refuse_cursor(params)
        return resources.list_templates()

    async def _read_resource(
        self, _: Request, params: mcp_types.ReadResourceRequestParams
    ) -> mcp_types.ReadResourceResult:
        return await resources.read_resource(self._service, str(params.uri))

    async def _subscribe(self, ctx: Request, params: mcp_types.SubscribeRequestParams) -> mcp_types.EmptyResult:
        self._demand_sessions()
        try:
            await self.subscriptions.subscribe(ctx.session, str(params.uri))
        except AGBError as error:
            raise resources.protocol_error(error, uri=str(params.uri)) from error
        return _EMPTY

    async def _unsubscribe(self, ctx: Request, params: mcp_types.UnsubscribeRequestParams) -> mcp_types.EmptyResult:
        self._demand_sessions()
        self.subscriptions.unsubscribe(ctx.session, str(params.uri))
        return _EMPTY

    def _demand_sessions(self) -> None:
        if not self._keeps_sessions:
            raise MCPError(mcp_types.METHOD_NOT_FOUND, _NO_SUBSCRIPTIONS)

    async def _list_prompts(
        self, _: Request, params: mcp_types.PaginatedRequestParams | None
    ) -> mcp_types.ListPromptsResult:
        _refuse_cursor(params)
        return mcp_types.ListPromptsResult(prompts=list(prompts.PROMPTS))

    async def _get_prompt(self, _: Request, params: mcp_types.GetPromptRequestParams) -> mcp_types.GetPromptResult:
        offer = self._offer if may_write() else self._reading_offer
        return await prompts.get_prompt(self._service, offer, params.name, params.arguments)

    async def _complete(self, _: Request, params: mcp_types.CompleteRequestParams) -> mcp_types.CompleteResult:
        return await completions.complete(self._service, params)


def _definitions(offer: Offer) -> list[mcp_types.Tool]:
    return [offer.definition(tool) for tool in offer.tools.values()]


def _refuse_cursor(params: mcp_types.PaginatedRequestParams | None) -> None:
    """Refuse any cursor where a list always comes whole."""
    if params is not None and params.cursor is not None:
        raise MCPError(mcp_types.INVALID_PARAMS, "this list has one page; call it without a cursor")


def _result(answer: Answer, *, is_large: bool) -> dict[str, Any]:
    """Spell an answer as it goes out: the SDK checks it in any case, and models would only be taken apart again."""
    facts = answer.facts.model_dump(mode="json", exclude_none=True)
    result: dict[str, Any] = {"resultType": "complete", "content": _content(answer), "isError": False}
    if answer.payload is not None or (is_large and len(answer.text) > _MAX_STRUCTURED_CHARS):
        result["_meta"] = {FACTS_KEY: facts}
    else:
        result["structuredContent"] = facts
    return result


def _content(answer: Answer) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = [{"type": "text", "text": answer.text}]
    if answer.payload is not None:
        fence = fence_for(answer.source)
        content[0]["text"] += f"\n{fence.opening}"
        content.append({"type": "text", "text": answer.payload})
        content.append({"type": "text", "text": f"{fence.closing}\n{answer.after}".rstrip()})
    if answer.image is not None:
        data = base64.b64encode(answer.image.content).decode()
        content.append({"type": "image", "data": data, "mimeType": answer.image.mime_type})
    if answer.link is not None:
        uri, name, mime_type, size_bytes = answer.link
        link = {"type": "resource_link", "uri": uri, "name": name, "mimeType": mime_type, "size": size_bytes}
        content.append(link)
    return content
