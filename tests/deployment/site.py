"""The site that docker/compose.yaml describes, as processes of this machine: its commands, its settings, its proxy."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.deployment.dockerfile import ROOT, read_stages
from tests.deployment.haproxy import HAPROXY
from tests.ports import free_port

CTX_MCP = Path(sysconfig.get_path("scripts")) / "ctx-mcp"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROXY = (ROOT / "docker" / "haproxy.cfg").read_text("utf-8")
VARIABLE = re.compile(r"\$\{(\w+)(:-|:\?)([^}]*)\}")
PORTS = {"service": 8766, "mcp": 8765}
WAIT_S = 120
_PATIENCE_S = 0.02


def settings_of(service: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a container, made of what would be in `.env`."""

    def value(found: re.Match[str]) -> str:
        name, kind, default = found.groups()
        return variables[name] if kind == ":?" else variables.get(name, default)

    return {name: VARIABLE.sub(value, text) for name, text in SERVICES[service]["environment"].items()}


def command_of(service: str) -> list[str]:
    """Return what a container runs, without the name of the program."""
    command: list[str] = SERVICES[service].get("command", read_stages()[-1].command("CMD"))
    return command


class Replica:
    """One process of a service of the site, on ports that it keeps when it is started again."""

    def __init__(self, service: str, environ: Mapping[str, str], log: Path) -> None:
        self.port, self.metrics_port = free_port(), free_port()
        self.log = log
        self._service = service
        self._environ = {**environ, "CTX_MCP_METRICS_ADDRESS": f"127.0.0.1:{self.metrics_port}"}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def name(self) -> str:
        """What the proxy calls it."""
        return f"replica{self.port}"

    def start(self) -> None:
        command = [CTX_MCP, *command_of(self._service), "--port", str(self.port)]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(command, env=self._environ, stderr=output)

    def end(self) -> int:
        """End it as an engine does, and return its exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.terminate()
        try:
            return process.wait(WAIT_S)
        finally:
            process.kill()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(WAIT_S)


@dataclass
class Site:
    """All replicas, behind the proxy. `log` is what the proxy writes."""

    urls: dict[str, str]
    replicas: dict[str, list[Replica]]
    log: Path

    def answered(self, service: str, request_id: str = r"\S+") -> list[str]:
        """Return which replica answered each request that the proxy has logged, `<NOSRV>` where none did."""
        line = rf"^\S+ {request_id} .* {service}/(\S+) \S+$"
        return re.findall(line, self.log.read_text(), re.MULTILINE)

    def have_answered(self, service: str, after: int = 0) -> bool:
        """Tell whether every replica has answered a request, but for so many that were logged first."""
        return {replica.name for replica in self.replicas[service]} <= set(self.answered(service)[after:])


@contextmanager
def run_site(
    folder: Path, environ: Mapping[str, str], variables: Mapping[str, str], counts: Mapping[str, int]
) -> Generator[Site]:
    """Run so many replicas of each service, and the proxy; all of them answer.

    Args:
        folder: where settings and logs of this run are.
        environ: where PostgreSQL and the bucket are, in the place of the names that containers have.
        variables: what would be in `.env`.
    """
    ports = {service: free_port() for service in PORTS}
    urls = {service: f"http://127.0.0.1:{port}" for service, port in ports.items()}
    public = {"PUBLIC_URL": urls["service"], "MCP_PUBLIC_URL": urls["mcp"]}
    with ExitStack() as stack:
        replicas: dict[str, list[Replica]] = {}
        for service, count in counts.items():
            settings = {**os.environ, **settings_of(service, {**variables, **public}), **environ}
            replicas[service] = [Replica(service, settings, folder / f"{service}{n}.log") for n in range(count)]
            for replica in replicas[service]:
                stack.callback(replica.kill)
                replica.start()
        for replica in (each for group in replicas.values() for each in group):
            wait_until(lambda replica=replica: ask(f"{replica.url}/readyz") == 200)
        config = folder / "haproxy.cfg"
        config.write_text(config_here(ports, {name: [each.port for each in group] for name, group in replicas.items()}))
        log = folder / "proxy.log"
        output = stack.enter_context(log.open("wb"))
        running = subprocess.Popen([str(HAPROXY), "-db", "-f", config], stdout=output, stderr=subprocess.STDOUT)
        stack.callback(running.wait, WAIT_S)
        stack.callback(running.kill)
        for service in replicas:
            wait_until(lambda service=service: ask(f"{urls[service]}/readyz") == 200)
        yield Site(urls, replicas, log)


def config_here(binds: Mapping[str, int], servers: Mapping[str, list[int]]) -> str:
    """Return the configuration with the addresses of a test in the place of those in containers."""
    text = PROXY
    for service, port in PORTS.items():
        lines = "\n".join(f"    server replica{each} 127.0.0.1:{each}" for each in servers.get(service, []))
        text = re.sub(rf"^    server-template replica 8 {service}:.*$", lines, text, flags=re.MULTILINE)
        text = text.replace(f"    bind :{port}\n", f"    bind 127.0.0.1:{binds[service]}\n")
    return text


def ask(url: str) -> int:
    """Return the status of an answer, 0 where there is none."""
    try:
        return httpx.get(url, timeout=WAIT_S).status_code
    except httpx.TransportError:
        return 0


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(_PATIENCE_S)
