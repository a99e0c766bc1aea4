"""Exports: `POST /api/v1/logs` requests the records of a time range, `GET /api/v1/logs/{requestId}` returns the state,
`POST /api/v1/logs/_list` lists the requests, and `/exports/{id}` downloads the file.

Errors are {message, reason, code}: the document has `message`, its client prints `reason`, others read `code`.
Responses have the documented fields and `reason`, for people: what an export waits for, how far it is, or why it ended.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.requests import Request
from starlette.responses import Response

from ....capture.annotate import annotate
from ....capture.handle import leave_out
from ....control.exports import Export, ExportRequest, State
from ....control.subjects import principal_of
from ....errors import QueryError, StoreError
from ....exporting.base import CONTENT_TYPE, TargetError
from ....exporting.service import Download, ExportService, NotRunning
from ....exporting.waiting import shown_time
from ....query.model import Completeness, Grant, Query
from ....query.service import QueryService
from ....record.line import TIME_END
from ...completeness import audit_headers
from ...failure import Failure
from ...file_response import ObjectResponse, asks_for_a_part
from ...instants import ms_of
from ...models import answer_bytes, read_body, read_parameters, read_path
from ...operation import NO_STORE, Dialect, Example, Operation, ResponseLink, json_response
from ...params import parameters_of, shown
from .models import (
    RESULTS_MAX,
    Answer,
    Ask,
    Error,
    Id,
    Listed,
    Lists,
    PollParameters,
    QueryParameters,
    Signed,
    of_regions,
)

__all__ = ["EXPORTS", "operations"]

PATH = "/api/v1/logs"
ROLES = frozenset({"auditor"})

# Any other status gets the code of its class (RFC 9110, section 15).
_CODES = {
    400: "invalid_argument",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "content_too_large",
    416: "range_not_satisfiable",
    429: "too_many_requests",
    500: "internal_error",
    503: "unavailable",
}
_NOT_RUNNING = Failure(
    503,
    "no process runs exports now",
    "Start `asgi-audit serve` or `asgi-audit export` with the same home, then try again.",
    {"retry-after": "5"},
)
_NO_URL = Failure(
    503,
    "no URL can be made for the export storage now",
    "Try again. If the error persists, the operator of this API finds the reason in its log.",
    {"retry-after": "5"},
)
_log = logging.getLogger("asgi_audit.api")


def _error_body(failure: Failure) -> Error:
    message = f"{failure.message}. {failure.action}" if failure.action else failure.message
    code = _CODES.get(failure.status) or _CODES[400 if 400 <= failure.status < 500 else 500]
    return Error(message=message, reason=failure.message, code=code)


EXPORTS = Dialect(
    name="exports",
    error=Error,
    error_body=_error_body,
    field_names={"page_token": "next_token", "export": "requestId"},
    about="All records of a time range as one compressed file of JSON lines.",
)


def operations(service: QueryService, exports: ExportService) -> list[Operation]:
    handlers = _Handlers(service, exports)
    window = {"time_start": "2024-01-01T00:00:00.000Z", "time_end": "2024-01-01T00:00:01.000Z"}
    common: dict[str, Any] = {
        "dialect": EXPORTS,
        "roles": ROLES,
        "narrowed": of_regions(getattr(exports, "regions", {})),
    }
    signed: dict[str, Any] = {
        "dialect": EXPORTS,
        "roles": frozenset(),  # the URL is the key
        "path_values": Id,
        "parameters": Signed,
        "signed": True,
        "more_answers": {206: "The requested part of it."},
        "more_failures": (400, 403, 416, 429),
    }
    answer = {"request_id": "0193e1a07c4ea5a4", "region_group": "classic", **window}
    complete = {
        **answer,
        "state": "Complete",
        "presigned_url": "https://audit.example.com/exports/0193e1a07c4ea5a4?expires=1704070800&key=…",
        "presigned_url_expiration_time": "2024-01-01T01:00:00Z",
    }
    return [
        Operation(
            id="exports.request",
            method="POST",
            path=PATH,
            is_recorded=True,
            handle=handlers.request,
            parameters=QueryParameters,
            request=Ask,
            answer=Answer,
            summary="Request an export.",
            description="Returns at once. Poll `GET /api/v1/logs/{requestId}` until the state is `Complete`. The time "
            "range may end in the future: the file is written when that time has passed and the index is complete "
            "until then.",
            more_failures=(404,),
            example=Example(
                query={"type": "query"},
                body={"region_group": "classic", **window},
                answer={**answer, "state": "Requested"},
            ),
            **common,
        ),
        Operation(
            id="exports.list",
            method="POST",
            path=f"{PATH}/_list",
            is_recorded=False,
            handle=handlers.list,
            parameters=QueryParameters,
            request=Lists,
            answer=Listed,
            summary="List the requested exports, newest first.",
            example=Example(
                query={"type": "query"},
                body={"max_results": 10},
                answer={"next_token": None, "results": [{**answer, "state": "Requested"}]},
            ),
            **common,
        ),
        Operation(
            id="exports.result",
            method="GET",
            path=f"{PATH}/{{export}}",
            is_recorded=False,  # clients poll it many times for one export
            handle=handlers.result,
            path_values=Id,
            parameters=PollParameters,
            answer=Answer,
            summary="State of an export, and the URL of its file.",
            example=Example(query={"type": "query", "regionGroup": "classic"}, answer=complete),
            link=ResponseLink("exports.request", {"export": "request_id"}),
            **common,
        ),
        Operation(
            id="exports.download",
            method="GET",
            path="/exports/{export}",
            is_recorded=True,
            handle=handlers.download,
            summary="Download the file of an export: JSON lines, compressed with gzip.",
            description="Supports `Range` and conditional requests, such as `If-None-Match`.",
            content_type=CONTENT_TYPE,
            link=ResponseLink("exports.result", {}, url="presigned_url"),
            **signed,
        ),
        Operation(
            id="exports.manifest",
            method="GET",
            path="/exports/{export}/manifest",
            is_recorded=False,  # it only describes the file, whose download is recorded
            handle=handlers.manifest,
            summary="Manifest of an export: what its file contains, and its digests.",
            link=ResponseLink("exports.download", {}, url="link"),
            **signed,
        ),
    ]


class _Handlers:
    def __init__(self, service: QueryService, exports: ExportService) -> None:
        self._service = service
        self._exports = exports

    async def request(self, request: Request, grant: Grant) -> Response:
        self._check_group(read_parameters(request, QueryParameters).regionGroup)
        asked = self._export_request(grant, await read_body(request, Ask))
        with self._service.admission.enter(grant.key_id):
            completeness = await self._completeness(grant, asked.query)
            try:
                export, is_new = await asyncio.to_thread(self._exports.request, grant, asked)
            except NotRunning:
                return EXPORTS.fail(_NOT_RUNNING)
            if not is_new:
                leave_out(request)  # the first request is recorded
            return await self._answered(grant, export, completeness)

    async def result(self, request: Request, grant: Grant) -> Response:
        self._check_group(read_parameters(request, PollParameters).regionGroup)
        id_ = read_path(request, Id).export
        with self._service.admission.enter(grant.key_id):
            export = await asyncio.to_thread(self._exports.find, grant, id_)
            return await self._answered(grant, export, await self._completeness(grant, export.query))

    async def list(self, request: Request, grant: Grant) -> Response:
        group = self._check_group(read_parameters(request, QueryParameters).regionGroup)
        asked = await read_body(request, Lists)
        states = [State(state) for state in asked.states or ()]
        with self._service.admission.enter(grant.key_id):
            found, following = await asyncio.to_thread(
                self._exports.page, grant, states, asked.next_token, asked.max_results or RESULTS_MAX, group
            )
            completeness = await self._service.completeness(grant, 0, TIME_END)
        answer = Listed(next_token=following, results=[_answer(export) for export in found])
        return json_response(answer_bytes(answer), headers=audit_headers(completeness))

    async def download(self, request: Request, _: Grant) -> Response:
        found = await self._open(request)

        async def begins() -> None:
            # A download in several ranges is recorded once; a HEAD downloads nothing.
            if request.method == "HEAD" or (not await self._is_first(found) and asks_for_a_part(request.scope)):
                leave_out(request)

        lease = self._service.admission.enter(found.link.key_id)
        headers = {**NO_STORE, **_described_by(found.manifest_url, found.export)}
        return ObjectResponse(found.path, CONTENT_TYPE, headers, EXPORTS.fail, lease, begins)

    async def manifest(self, request: Request, _: Grant) -> Response:
        found = await self._open(request, manifest=True)
        lease = self._service.admission.enter(found.link.key_id)
        return ObjectResponse(found.path, "application/json", NO_STORE, EXPORTS.fail, lease)

    async def _open(self, request: Request, *, manifest: bool = False) -> Download:
        given = _parameters(request)
        id_ = read_path(request, Id).export
        found = await asyncio.to_thread(self._exports.open, id_, given, manifest=manifest)
        reach = found.export.reach
        account = next(iter(reach)) if reach is not None and len(reach) == 1 else None
        annotate(request, principal=principal_of(found.link.key_id), account_id=account, auth_method="signed-url")
        return found

    async def _is_first(self, found: Download) -> bool:
        try:
            return await asyncio.to_thread(self._exports.is_first_download, found.link)
        except StoreError:
            return True  # a second record of one download is better than none

    async def _answered(self, grant: Grant, export: Export, completeness: Completeness) -> Response:
        answer, headers = _answer(export), audit_headers(completeness)
        if export.state is State.COMPLETE:
            try:
                url, manifest_url = await asyncio.to_thread(self._exports.presign, grant, export)
            except TargetError as e:
                _log.error("no URL could be made for export %s: %s", export.id, e)
                return EXPORTS.fail(_NO_URL)
            expires = shown_time(url.expires * 1000)
            answer = answer.model_copy(update={"presigned_url": url.url, "presigned_url_expiration_time": expires})
            headers |= _described_by(manifest_url, export)
        return json_response(answer_bytes(answer), headers=headers)

    async def _completeness(self, grant: Grant, query: Query) -> Completeness:
        return await self._service.completeness(grant, query.start, query.end)

    def _export_request(self, grant: Grant, ask: Ask) -> ExportRequest:
        """Raises QueryError."""
        said = {"time_start": ask.time_start.text, "time_end": ask.time_end.text}
        accounts, service, instance = grant.accounts, None, None
        group = ask.group
        if ask.database is not None:
            group, account, service, instance = _parts(ask.database)
            said["database"] = ask.database
            if grant.accounts is not None and account not in grant.accounts:
                raise QueryError(
                    "database: there is no such account", kind="missing", hint="Use a key for this account."
                )
            accounts = frozenset({account})
        assert group is not None
        if ask.group is not None:
            said["region_group"] = group
        region = self._region(group, "region_group" if ask.database is None else "database")
        query = Query(
            accounts=accounts,
            start=ms_of(ask.time_start.ns),
            end=ms_of(ask.time_end.ns),
            service=service,
            instance=instance,
            region=region,
            order="oldest",
        )
        return ExportRequest(
            query,
            said,
            group,
            (ask.idempotency_token or "").lower(),
            State.DOES_NOT_EXIST if query.start >= query.end else State.REQUESTED,
        )

    def _check_group(self, group: str | None) -> str | None:
        if group is not None:
            self._region(group, "regionGroup")
        return group

    def _region(self, group: str, field: str) -> str | None:
        """The region of the records in this group; None for all regions. Raises QueryError."""
        region = self._exports.regions.get(group)
        if region is None:
            accepted = ", ".join(self._exports.regions)
            raise QueryError(f"{field}: there is no region group {shown(group)}; accepted: {accepted}")
        return None if region == "*" else region


def _parts(database: str) -> tuple[str, str, str | None, str | None]:
    """Region group, account, service and instance."""
    found = [unquote_to_bytes(part).decode() for part in database.split("/")]
    group, account, service, instance = [*found, None, None][:4]
    assert group is not None
    assert account is not None
    return group, account, service, instance


def _described_by(manifest_url: str, export: Export) -> dict[str, str]:
    return {
        "link": f'<{manifest_url}>; rel="describedby"; type="application/json"',
        "audit-manifest-sha256": export.manifest,
    }


def _answer(export: Export) -> Answer:
    return Answer(request_id=export.id, state=export.state.value, reason=export.reason, **export.said)


def _parameters(request: Request) -> dict[str, str]:
    """The parameters of a signed URL; {} when one occurs twice: this API makes no such URL."""
    try:
        return parameters_of(request)
    except QueryError:
        return {}
