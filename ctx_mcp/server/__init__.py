"""The MCP face: tools, resources, prompts, transports. The only place that imports `mcp`."""
