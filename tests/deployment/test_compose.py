"""docker/compose.yaml and docker/haproxy.cfg: that their parts fit each other, and the programs they start."""

from __future__ import annotations

import re
import subprocess
import tomllib
from typing import cast

import pytest

from ctx_mcp.cli.parser import build_parser
from ctx_mcp.domain.limits import DEFAULT_LIMITS
from ctx_mcp.embedded import _SERVICE_GRACE_S  # pyright: ignore[reportPrivateUsage] - what an engine must outwait
from ctx_mcp.server.http import FLEET_GRACE_S
from ctx_mcp.service.hosts import names_of
from ctx_mcp.settings import VARIABLES
from ctx_mcp.telemetry.calls import read_request_id
from tests.deployment.dockerfile import ROOT, read_stages
from tests.deployment.haproxy import HAPROXY
from tests.deployment.site import COMPOSE, PORTS, PROXY, SERVICES, VARIABLE, command_of, settings_of

OURS = [name for name, service in SERVICES.items() if service["image"] == "ctx-mcp"]
PAGE = (ROOT / "docs" / "deployment.md").read_text("utf-8")


def _texts(value: object) -> list[str]:
    """Return all texts of a tree."""
    if isinstance(value, dict):
        return [text for part in cast("dict[str, object]", value).values() for text in _texts(part)]
    if isinstance(value, list):
        return [text for part in cast("list[object]", value) for text in _texts(part)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "restart" in service
    assert "privileged" not in service
    assert "cap_add" not in service
    assert service.get("user", "1:1").partition(":")[0] != "0"


@pytest.mark.parametrize("name", OURS)
def test_what_our_containers_start_can_be_said_and_set(name: str) -> None:
    service = SERVICES[name]
    options = build_parser().parse_args(service.get("command", read_stages()[-1].command("CMD")))
    assert options.command in ("service", "serve")
    settings = {setting for setting in service["environment"] if setting.startswith("CTX_MCP_")}
    assert settings <= set(VARIABLES)
    assert "sessions:" + read_stages()[-1].last("VOLUME") in service["volumes"]


@pytest.mark.parametrize(("name", "grace_s"), [("service", _SERVICE_GRACE_S), ("mcp", FLEET_GRACE_S)])
def test_an_engine_waits_until_the_proxy_has_turned_away_and_running_calls_have_ended(name: str, grace_s: int) -> None:
    drain_s = int(SERVICES[name]["environment"]["CTX_MCP_DRAIN_S"])
    (check,) = set(re.findall(r"check inter (\d+)s fastinter (\d+)ms fall (\d+)", PROXY))
    interval_s, next_ms, failure_count = map(int, check)
    assert drain_s >= 2 * (interval_s + (failure_count - 1) * next_ms / 1000)
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) >= drain_s + grace_s + 2


@pytest.mark.parametrize("name", PORTS)
def test_replicas_answer_to_the_names_that_other_containers_call_them_by(name: str) -> None:
    variables = dict.fromkeys((found for found, kind, _ in VARIABLE.findall(str(COMPOSE)) if kind == ":?"), "x")
    settings = settings_of(name, variables)
    allowed = settings["CTX_MCP_ALLOWED_HOSTS"].split(",")
    options = build_parser().parse_args(command_of(name))
    assert {"localhost", "proxy", name} <= set(names_of(options.host, settings["CTX_MCP_PUBLIC_URL"], allowed) or ())


@pytest.mark.parametrize(
    "given", ["12345678", "a.b_c-d.e", "1234567", "x" * 64, "x" * 65, "-2345678", "1234 678", "é2345678"]
)
def test_the_proxy_keeps_the_request_ids_that_replicas_keep(given: str) -> None:
    (shape,) = set(re.findall(r"-m reg (\S+) }", PROXY))
    assert (re.fullmatch(shape, given) is not None) == (read_request_id(given) == given)


def test_no_secret_is_in_the_file_and_none_has_a_default() -> None:
    found = [match for text in _texts(COMPOSE) for match in VARIABLE.findall(text)]
    secrets = {name for name, kind, _ in found if kind == ":?"}
    assert secrets == {"POSTGRES_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_RPC_SECRET", "CTX_MCP_API_KEYS"}
    assert all(kind == ":?" for name, kind, _ in found if re.search("PASSWORD|SECRET|KEY", name))
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|ACCESS_KEY|API_KEYS", name):
                assert ":?" in value, name


def test_the_page_makes_exactly_the_secrets_that_are_asked_for() -> None:
    made = set(re.findall(r"^echo \"?(\w+)=", PAGE, re.MULTILINE))
    asked = {name for text in _texts(COMPOSE) for name, kind, _ in VARIABLE.findall(text) if kind == ":?"}
    assert made == asked
    optional = {name for text in _texts(COMPOSE) for name, kind, _ in VARIABLE.findall(text) if kind == ":-"}
    assert all(f"`{name}`" in PAGE for name in optional)
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "docker/.env" in ignored


def test_nothing_is_reached_from_other_machines_unless_it_is_said() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("${LISTEN:-127.0.0.1}:") for port in ports)


def test_what_waits_for_another_can_see_when_that_is_so_far() -> None:
    for service in SERVICES.values():
        for name, rule in service.get("depends_on", {}).items():
            if rule["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[name]
            if rule["condition"] == "service_completed_successfully":
                assert SERVICES[name]["restart"] in ("no", "on-failure:3")
    assert "migrate" in SERVICES["service"]["depends_on"]


def test_volumes_and_hosts_that_are_named_exist() -> None:
    named = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert {name for name in named if not name.startswith(".")} == set(COMPOSE["volumes"])
    assert all((ROOT / "docker" / name).exists() for name in named if name.startswith("."))
    for name, port in re.findall(r"server-template \w+ \d+ (\w+):(\d+)", PROXY):
        options = build_parser().parse_args(SERVICES[name].get("command", ["service"]))
        assert str(options.port) == port
    binds = set(re.findall(r"^\s+bind :(\d+)", PROXY, re.MULTILINE))
    assert {port.rpartition(":")[2] for port in SERVICES["proxy"]["ports"]} == binds


def test_the_proxy_lets_through_what_the_service_takes_and_logs_no_query() -> None:
    assert f"gt {DEFAULT_LIMITS.max_write_bytes * 3 // 2 + 64 * 1024} " in PROXY
    (shape,) = re.findall(r'log-format "([^"]+)"', PROXY)
    # %HU, %HQ and %r hold the query, and with it signatures.
    assert not {"%HU", "%HQ", "%r", "%HPO", "%hr"} & set(shape.split())
    assert "http-buffer-request" not in PROXY


def test_service_and_object_store_mean_the_same_bucket() -> None:
    garage = tomllib.loads((ROOT / "docker" / "garage.toml").read_text("utf-8"))
    served, used = SERVICES["s3"]["environment"], SERVICES["service"]["environment"]
    assert used["CTX_MCP_OBJECT_STORE_URL"] == f"s3://{served['GARAGE_DEFAULT_BUCKET']}"
    assert used["AWS_ACCESS_KEY_ID"] == served["GARAGE_DEFAULT_ACCESS_KEY"]
    assert used["AWS_SECRET_ACCESS_KEY"] == served["GARAGE_DEFAULT_SECRET_KEY"]
    assert used["AWS_REGION"] == garage["s3_api"]["s3_region"]
    (name,) = SERVICES["s3"]["networks"]["default"]["aliases"]
    port = garage["s3_api"]["api_bind_addr"].rpartition(":")[2]
    assert used["AWS_ENDPOINT_URL"] == f"http://{name}:{port}"
    assert SERVICES["s3"]["ports"] == [f"${{LISTEN:-127.0.0.1}}:{port}:{port}"]


@pytest.mark.skipif(HAPROXY is None, reason="HAProxy is not installed")
def test_the_proxy_itself_takes_its_configuration() -> None:
    command = [str(HAPROXY), "-c", "-dW", "-f", str(ROOT / "docker" / "haproxy.cfg")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
