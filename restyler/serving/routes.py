"""The service's routes under /v1, for whichever FastAPI application includes them."""

# No `from __future__ import annotations` here: FastAPI reads annotations, and the callers' type is made in `router`.

from collections.abc import AsyncIterator, Callable
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal
from urllib.parse import quote

import anyio
from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import FileResponse, Response, StreamingResponse

from restyler.serving import archive, events
from restyler.serving.refusals import RefusedError, not_found
from restyler.serving.requests import (
    Identity,
    JobAnswer,
    JobChange,
    JobList,
    JobRequest,
    MixAnswer,
    MixChange,
    ModelAnswer,
    Name,
    State,
    TakeAnswer,
    TakeList,
    WaveformAnswer,
)
from restyler.serving.routing import Route, SentFile, json_body, refusals, said_as_json, sent
from restyler.serving.service import Service
from restyler.serving.sounds import mix_file
from restyler.serving.uploads import OVERVIEW_POINTS

AUDIO_TYPES = {"wav": "audio/wav", "flac": "audio/flac", "original": "application/octet-stream"}
CHAIN_TYPES = {"yaml": "application/yaml", "txt": "text/plain; charset=utf-8"}
MOST_JOBS = 200
CHECKED_AT_ONCE = 4  # jobs before they are accepted: with `like` their takes are read whole
HIGHEST_EVENT = 2**53
AUDIO = sent("audio/wav", "audio/flac", ranges=True)
TAKE = sent("audio/wav", "application/octet-stream", ranges=True)

TakeId = Annotated[Identity, Path()]
JobId = Annotated[Identity, Path()]
MixNumber = Annotated[int, Path(ge=0, le=99)]


def router(service: Service, owner: Callable[..., Any]) -> APIRouter:
    """owner: a FastAPI dependency that returns the name of who asks, and raises what its application answers strangers
    with. Takes and jobs belong to that name; nobody sees another's."""

    def caller(name: Annotated[str, Depends(owner)], request: Request) -> str:
        request.scope["restyler.owner"] = name  # for the log
        service.admit(name)
        return name

    class CountedRoute(Route):
        refused = staticmethod(lambda reason: service.metrics.add("refused", reason=reason))

    Caller = Annotated[str, Depends(caller)]  # noqa: N806 - a type
    routes = APIRouter(prefix="/v1", route_class=CountedRoute)

    @routes.get("/model", responses=refusals(), response_model=ModelAnswer)
    def model(who: Caller) -> Any:
        """What the model can do, and what this service takes."""
        return service.model.answer() | {"limits": vars(service.limits)}

    _take_routes(routes, service, Caller)
    _job_routes(routes, service, Caller)
    _sound_routes(routes, service, Caller)
    return routes


def _take_routes(routes: APIRouter, service: Service, caller: Any) -> None:
    takes = service.takes

    @routes.post(
        "/takes",
        status_code=201,
        response_model=TakeAnswer,
        responses=refusals(400, 408, 413, 422, 503),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
            }
        },
    )
    async def upload(request: Request, who: caller, name: Annotated[Name, Query()]) -> Any:
        """A take: the body is the file, in any format that libsndfile reads. It is decoded once, whole, before it is
        taken."""
        service.require_open()
        return await takes.add(who, name, request.stream(), request.headers.get("content-length"))

    @routes.get("/takes", response_model=TakeList, responses=refusals())
    def list_takes(who: caller) -> Any:
        """Newest first."""
        return {"takes": takes.every(who)}

    @routes.get("/takes/{take}", response_model=TakeAnswer, responses=refusals(404, 422))
    def one_take(who: caller, take: TakeId) -> Any:
        return takes.one(who, take).answer()

    @routes.get("/takes/{take}/audio", response_class=FileResponse, responses=TAKE | refusals(404, 416, 422))
    def take_audio(
        who: caller, take: TakeId, form: Annotated[Literal["original", "wav"], Query(alias="format")] = "original"
    ) -> Any:
        """The file as it was uploaded; or as a WAV of 48 kHz and 16 bit, as every browser plays it."""
        found, path = takes.original(who, take) if form == "original" else takes.wav(who, take)
        stem = archive.safe_stem(found.name)
        return _file(path, AUDIO_TYPES[form], stem if form == "original" else f"{stem.removesuffix('.wav')}.wav")

    @routes.get("/takes/{take}/waveform", response_model=WaveformAnswer, responses=refusals(404, 422))
    def waveform(who: caller, take: TakeId, points: Annotated[int, Query(ge=1, le=OVERVIEW_POINTS)] = 1000) -> Any:
        """Lowest and highest sample, over all channels, of so many equal parts of the take."""
        return takes.overview(who, take, points)

    @routes.delete("/takes/{take}", status_code=204, response_class=Response, responses=refusals(404, 409, 422))
    def delete_take(who: caller, take: TakeId) -> None:
        """Jobs made of it stay."""
        takes.remove(who, take)


def _job_routes(routes: APIRouter, service: Service, caller: Any) -> None:
    jobs, checking = service.jobs, anyio.CapacityLimiter(CHECKED_AT_ONCE)

    @routes.post(
        "/jobs",
        status_code=202,
        response_model=JobAnswer,
        responses=refusals(400, 404, 408, 409, 413, 415, 422, 503),
        openapi_extra=said_as_json(JobRequest),
    )
    async def create_job(
        who: caller,
        job: Annotated[JobRequest, json_body(JobRequest)],
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
    ) -> Any:
        """The options of `restyler sample` for one take. What is accepted is on disk, and will be done; the same
        Idempotency-Key gives the same job."""
        service.require_open()
        return await anyio.to_thread.run_sync(jobs.create, who, job, idempotency_key, limiter=checking)

    @routes.get("/jobs", response_model=JobList, responses=refusals(422))
    def list_jobs(
        who: caller,
        state: Annotated[State | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=MOST_JOBS)] = 50,
        before: Annotated[Identity | None, Query()] = None,
    ) -> Any:
        """Newest first. before: only those older than this job."""
        return {"jobs": jobs.page(who, state, limit, before)}

    @routes.get("/jobs/{job}", response_model=JobAnswer, responses=refusals(404, 422))
    def one_job(who: caller, job: JobId) -> Any:
        return jobs.one(who, job)

    @routes.patch(
        "/jobs/{job}",
        response_model=JobAnswer,
        responses=refusals(400, 404, 408, 413, 415, 422),
        openapi_extra=said_as_json(JobChange),
    )
    def rename_job(who: caller, job: JobId, change: Annotated[JobChange, json_body(JobChange)]) -> Any:
        return jobs.rename(who, job, change.name)

    @routes.patch(
        "/jobs/{job}/mixes/{mix}",
        response_model=MixAnswer,
        responses=refusals(400, 404, 408, 413, 415, 422),
        openapi_extra=said_as_json(MixChange),
    )
    def change_mix(who: caller, job: JobId, mix: MixNumber, change: Annotated[MixChange, json_body(MixChange)]) -> Any:
        """Names a mix, or says whether it is picked."""
        return jobs.change_mix(who, job, mix, change)

    @routes.post("/jobs/{job}/cancel", response_model=JobAnswer, responses=refusals(404, 409, 422))
    def cancel_job(who: caller, job: JobId) -> Any:
        """Mixes that are made stay."""
        return jobs.cancel(who, job)

    @routes.delete("/jobs/{job}", status_code=204, response_class=Response, responses=refusals(404, 409, 422))
    def delete_job(who: caller, job: JobId) -> None:
        """With its mixes."""
        jobs.remove(who, job)

    @routes.get(
        "/jobs/{job}/events",
        response_class=StreamingResponse,
        responses=sent("text/event-stream") | refusals(404, 422),
    )
    async def job_events(
        who: caller,
        job: JobId,
        last_event_id: Annotated[int | None, Header(ge=0, le=HIGHEST_EVENT)] = None,
    ) -> Any:
        """Events `state` (a job), `mix` (a mix) and `progress`, until the job has ended; Last-Event-ID goes on after
        that one."""
        stream = events.stream(service, who, job, last_event_id)
        await anext(stream)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_closing(stream), media_type="text/event-stream", headers=headers)


async def _closing(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for piece in stream:
            yield piece
    finally:
        await stream.aclose()  # type: ignore[attr-defined]  # or the listener would be counted until it is collected


def _sound_routes(routes: APIRouter, service: Service, caller: Any) -> None:
    jobs, places = service.jobs, service.places

    def found(who: str, job: str, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        whole = jobs.one(who, job)
        mix = next((one for one in whole["mixes"] if one["number"] == number), None)
        if mix is None:
            raise not_found("mix")
        return whole, mix

    @routes.get("/jobs/{job}/mixes/{mix}", response_class=FileResponse, responses=AUDIO | refusals(404, 416, 422))
    def mix_audio(
        who: caller, job: JobId, mix: MixNumber, form: Annotated[Literal["wav", "flac"], Query(alias="format")] = "wav"
    ) -> Any:
        """48 kHz, 24 bit, stereo, exactly as long as the take."""
        whole, one = found(who, job, mix)
        return _file(mix_file(places, job, mix, form), AUDIO_TYPES[form], f"{archive.mix_stem(whole, one)}.{form}")

    @routes.get(
        "/jobs/{job}/mixes/{mix}/chain",
        response_class=Response,
        responses=sent("application/yaml", "text/plain") | refusals(404, 422),
    )
    def chain(
        who: caller, job: JobId, mix: MixNumber, form: Annotated[Literal["yaml", "txt"], Query(alias="format")] = "yaml"
    ) -> Any:
        """Of a mix by --render transfer: its effect chain, for `restyler synthesize --chains` or to read."""
        whole, one = found(who, job, mix)
        if not one["has_chain"]:
            raise not_found("chain: the mix was not rendered by one")
        headers = _attachment(f"{archive.mix_stem(whole, one)}.{form}")
        return Response(
            archive.chain_text(whole, places.job(job), mix, form), media_type=CHAIN_TYPES[form], headers=headers
        )

    @routes.get(
        "/jobs/{job}/archive",
        response_class=StreamingResponse,
        responses=sent("application/zip") | refusals(404, 409, 422),
    )
    def whole_archive(who: caller, job: JobId) -> Any:
        """All mixes that are made, with their chains, as one ZIP file."""
        whole = jobs.one(who, job)
        if not whole["mixes"]:
            raise RefusedError(409, "no mix of this job is made yet")
        files = archive.members(whole, places.job(job))
        headers = _attachment(f"{archive.safe_stem(whole['name'])}.zip")
        return StreamingResponse(archive.zipped(files), media_type="application/zip", headers=headers)


def _file(path: FilePath, media_type: str, name: str) -> SentFile:
    """With ranges. Raises RefusedError (404) where it has gone."""
    if not path.is_file():
        raise not_found("file any more")
    return SentFile(path, media_type=media_type, headers=_attachment(name) | {"Cache-Control": "private, no-cache"})


def _attachment(name: str) -> dict[str, str]:
    """A file's name, by RFC 5987."""
    return {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
