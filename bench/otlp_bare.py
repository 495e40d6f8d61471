"""The application with one more view: it decodes spans and COPYs them, which any such endpoint must.

It reads all that a span says and keeps each as a row, by its id and with its attributes as JSONB.
"""

import json
import os
from collections.abc import Iterable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

from django.conf import settings
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from project.wsgi import application
from runs.access import public

settings.ROOT_URLCONF = "bench.otlp_bare"

_COPY = """
    COPY bench_span (
        trace_id, span_id, parent_id, name, kind, started, ended, status, status_message,
        attributes, events, resource, scope
    ) FROM STDIN
"""


@csrf_exempt
@public
def bare(request: HttpRequest) -> HttpResponse:
    export = ExportTraceServiceRequest.FromString(request.body)
    with transaction.atomic(), connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        for block in export.resource_spans:
            resource = json.dumps(_attributes(block.resource.attributes))
            for inner in block.scope_spans:
                for span in inner.spans:
                    copy.write_row((*_row(span), resource, inner.scope.name))
    return HttpResponse(content_type="application/x-protobuf")


def _row(span: Any) -> tuple[Any, ...]:
    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
    times = (span.start_time_unix_nano, span.end_time_unix_nano)
    events = [[event.name, event.time_unix_nano, _attributes(event.attributes)] for event in span.events]
    said = (json.dumps(_attributes(span.attributes)), json.dumps(events))
    return (*ids, span.name, span.kind, *times, span.status.code, span.status.message, *said)


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return _attributes(value.kvlist_value.values) if kind == "kvlist_value" else getattr(value, kind)


urlpatterns = [path("bench/bare", bare), path("", include("project.urls"))]

__all__ = ["application"]
