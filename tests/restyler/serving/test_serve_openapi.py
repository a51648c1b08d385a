"""The OpenAPI document against the service: calls as it allows, and as it doesn't; other applications; metrics."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import schemathesis
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import restyler.serving
from restyler.serving import Limits, LocalExecutor, Service, app, router

KEY = "the key of the page"
BEARER = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def service(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Without workers: jobs wait."""
    limits = Limits(requests_a_minute=1_000_000, in_flight=1000, queue=1000)
    found = Service(tmp_path_factory.mktemp("service"), LocalExecutor(model, "cpu"), model=model, limits=limits)
    yield found
    found.stop()


@pytest.fixture(scope="module")
def application(service: Service) -> FastAPI:
    return app(service, local_key=KEY)


@pytest.fixture(scope="module")
def ids(application: FastAPI, take_bytes: bytes) -> dict[str, str]:
    """Of a take, and of a job that waits."""
    with TestClient(application, headers=BEARER) as client:
        take = client.post("/v1/takes", params={"name": "x"}, content=take_bytes).json()["id"]
        return {"take": take, "job": client.post("/v1/jobs", json={"take": take}).json()["id"]}


CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def test_every_answer_is_one_that_the_document_describes(application: FastAPI, ids: dict[str, str]) -> None:
    document = schemathesis.openapi.from_asgi("/openapi.json", application)
    found, statuses = 0, Counter[tuple[str, int]]()
    for operation in (result.ok() for result in document.get_all_operations()):
        found += 1

        @settings(
            max_examples=6,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(
            case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
            | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
            real=st.booleans(),
        )
        def call(case: Any, real: bool) -> None:
            if real and not case.operation.path.endswith("/events"):  # those of a job that waits never end
                case.path_parameters = {name: ids.get(name, value) for name, value in case.path_parameters.items()}
                if isinstance(case.body, dict) and "take" in case.body:
                    case.body["take"] = ids["take"]
            answer = case.call(headers=BEARER)
            ready = case.operation.path == "/readyz"  # whose 503 is an answer
            case.validate_response(answer, checks=CHECKS[ready:])
            statuses[case.operation.label, answer.status_code] += 1
            if answer.status_code >= 400 and not ready:
                assert set(answer.json()) == {"error", "field"}

        call()
    assert found == len([1 for one in application.openapi()["paths"].values() for _ in one])
    assert {200, 401, 404, 409, 422} <= {status for _, status in statuses}, statuses


def test_the_document_names_every_field_and_refusal(application: FastAPI) -> None:
    document = application.openapi()
    body = document["paths"]["/v1/jobs"]["post"]["requestBody"]
    job = body["content"]["application/json"]["schema"]
    assert body["required"] is True and "$ref" not in json.dumps(job)
    assert job["additionalProperties"] is False and job["required"] == ["take"]
    assert {"style", "between", "like", "reference", "controls", "peak_dbtp", "strength"} <= set(job["properties"])
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path.startswith("/v1"):
                assert {"401", "403", "429"} <= set(operation["responses"]), path
                assert operation["security"], path


@pytest.fixture(scope="module")
def foreign(service: Service) -> FastAPI:
    """An application with sessions of its own, errors of its own, and the service under a prefix."""

    def who(x_session: Annotated[str | None, Header()] = None) -> str:
        users = {"s-1": "ada", "s-2": "bob"}
        if x_session not in users:
            raise HTTPException(418, "log in at our own desk")
        return users[x_session]

    studio = FastAPI()
    studio.include_router(router(service, owner=who), prefix="/studio/vocals")

    @studio.get("/me")
    def me(name: str = Depends(who)) -> str:
        return name

    return studio


def test_mounted_in_another_application(foreign: FastAPI, take_bytes: bytes) -> None:
    with TestClient(foreign) as client:
        ada, bob = {"X-Session": "s-1"}, {"X-Session": "s-2"}
        assert client.get("/me", headers=ada).json() == "ada"
        for headers in ({}, BEARER):
            answer = client.get("/studio/vocals/v1/takes", headers=headers)
            assert (answer.status_code, answer.json()) == (418, {"detail": "log in at our own desk"})
        answer = client.post("/studio/vocals/v1/takes", params={"name": "x"}, content=take_bytes, headers=ada)
        assert answer.status_code == 201
        take = answer.json()["id"]
        assert client.get(f"/studio/vocals/v1/takes/{take}", headers=bob).json() == {
            "error": "no such take",
            "field": None,
        }
        job = client.post("/studio/vocals/v1/jobs", json={"take": take, "style": "wide hall"}, headers=ada)
        assert job.status_code == 202 and job.json()["request"] == {"take": take, "style": "wide hall"}
        refused = client.post("/studio/vocals/v1/jobs", json={"take": take, "style": "no"}, headers=ada)
        assert refused.status_code == 422 and refused.json()["field"] == "style"
        unread = client.post("/studio/vocals/v1/jobs", content=b"{}", headers=ada | {"Content-Type": "text/plain"})
        assert unread.status_code == 415 and set(unread.json()) == {"error", "field"}
        assert client.get("/v1/takes", headers=ada).status_code == 404
        assert client.get("/nowhere").json() == {"detail": "Not Found"}
    paths = foreign.openapi()["paths"]
    assert "/studio/vocals/v1/jobs/{job}/events" in paths and "/me" in paths


def test_the_owner_is_the_applications_own(service: Service, foreign: FastAPI, take_bytes: bytes) -> None:
    with TestClient(foreign) as client, TestClient(app(service, local_key=KEY), headers=BEARER) as alone:
        take = alone.post("/v1/takes", params={"name": "x"}, content=take_bytes).json()["id"]
        answer = client.get(f"/studio/vocals/v1/takes/{take}", headers={"X-Session": "s-1"})
        assert answer.status_code == 404 and alone.get(f"/v1/takes/{take}").status_code == 200


NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf'({NAME})(?:\{{((?:{NAME}="(?:[^"\\\n]|\\["\\n])*",?)*)\}})? (\S+)')


def parsed(text: str) -> dict[str, tuple[str, dict[str, float]]]:
    """Prometheus' text format 0.0.4, strictly: by family its kind and its samples by name with labels."""
    assert text.endswith("\n")
    families: dict[str, tuple[str, dict[str, float]]] = {}
    helped, now = set(), ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split(" ")[2]
            assert name not in helped, f"{name}: helped twice"
            helped.add(name)
        elif line.startswith("# TYPE "):
            _, _, now, kind = line.split(" ")
            assert now in helped and now not in families and kind in ("counter", "gauge", "histogram")
            families[now] = (kind, {})
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            name, labels, value = match.groups()
            kind, samples = families[now]
            allowed = {f"{now}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {now}
            assert name in allowed, f"{name} under {now}"
            key = f"{name}{{{labels or ''}}}"
            assert key not in samples, key
            samples[key] = float(value)
            assert not math.isnan(samples[key]) and (kind == "gauge" or samples[key] >= 0)
    return families


def test_metrics_say_what_happened(service: Service, take_bytes: bytes) -> None:
    with TestClient(app(service, local_key=KEY)) as client:

        def now() -> dict[str, tuple[str, dict[str, float]]]:
            answer = client.get("/metrics")
            assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            return parsed(answer.text)

        def value(families: Any, name: str, labels: str = "") -> float:
            return families[name][1].get(f"{name}{{{labels}}}", 0.0)

        before = now()
        take = client.post("/v1/takes", params={"name": "x"}, content=take_bytes, headers=BEARER).json()["id"]
        job = client.post("/v1/jobs", json={"take": take}, headers=BEARER).json()["id"]
        client.post("/v1/jobs", json={"take": take, "style": "no"}, headers=BEARER)
        client.get("/v1/takes")
        after = now()
        service.metrics.job_ended("done", 7.0)
        last = now()

    def grown(name: str, labels: str = "") -> float:
        return value(after, name, labels) - value(before, name, labels)

    assert grown("restyler_uploads_total") == 1
    assert grown("restyler_upload_bytes_total") == len(take_bytes)
    assert grown("restyler_queue_length") == grown("restyler_jobs", 'state="queued"') == 1
    assert grown("restyler_stored_bytes") > len(take_bytes)
    assert grown("restyler_refused_total", 'reason="no_key"') == 1
    assert grown("restyler_refused_total", 'reason="unprocessable_entity"') == 1
    assert grown("restyler_requests_total", 'method="POST",route="/v1/jobs",status="202"') == 1
    buckets = [count for name, count in last["restyler_job_seconds"][1].items() if "bucket" in name]
    assert buckets == sorted(buckets)
    histogram = last["restyler_job_seconds"][1]
    assert histogram['restyler_job_seconds_bucket{le="5.0"}'] == 0
    assert histogram['restyler_job_seconds_bucket{le="10.0"}'] == histogram["restyler_job_seconds_count{}"] == 1
    assert histogram["restyler_job_seconds_sum{}"] == 7.0
    text = str(after)
    assert take not in text and job not in text and KEY not in text and "local" not in text


def test_the_log_says_neither_keys_nor_names_nor_ids(
    service: Service, take_bytes: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with TestClient(app(service, local_key=KEY), headers=BEARER) as client:
        take = client.post("/v1/takes", params={"name": "my secret song"}, content=take_bytes).json()["id"]
        client.get(f"/v1/takes/{take}")
        client.get("/nowhere/at/all", params={"key": KEY})
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("POST", "/v1/takes", 201),
        ("GET", "/v1/takes/{take}", 200),
        ("other", None, 404),
    ]
    assert len({line["owner"] for line in lines[:2]}) == 1 and lines[2]["owner"] is None
    told = str(lines)
    assert all(secret not in told for secret in (KEY, take, "secret song", "local", "nowhere"))


def test_headers_hosts_and_origins(service: Service) -> None:
    here = app(service, local_key=KEY, hosts=["127.0.0.1:8765"], origins=["https://studio.example"])
    with TestClient(here, base_url="http://127.0.0.1:8765", headers=BEARER) as client:
        answer = client.get("/v1/takes")
        assert answer.status_code == 200
        assert "default-src 'none'; script-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
        for host in ("evil.example:8765", "127.0.0.1", "localhost"):
            refused = client.get("/v1/takes", headers={"Host": host})
            assert refused.status_code == 403 and set(refused.json()) == {"error", "field"}
        asking = {"Origin": "https://studio.example"}
        assert client.get("/v1/takes", headers=asking).headers["access-control-allow-origin"] == asking["Origin"]
        other = client.get("/v1/takes", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
        before = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        assert client.options("/v1/jobs", headers=asking | before).status_code == 200
        assert client.options("/v1/jobs", headers={"Origin": "https://evil.example"} | before).status_code == 400
    with TestClient(app(service, local_key=KEY), headers=BEARER) as client:
        assert "access-control-allow-origin" not in client.get("/v1/takes", headers=asking).headers


def test_what_the_package_offers() -> None:
    offered: list[Callable[..., Any]] = [Limits, LocalExecutor, Service, app, router]
    assert all(callable(one) for one in offered)
    with pytest.raises(AttributeError):
        _ = restyler.serving.nothing
