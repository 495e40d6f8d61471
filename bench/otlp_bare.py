"""The application with one more view: it decodes spans and COPYs them, which any such endpoint must."""

import json
import os
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

_COPY = "COPY bench_span (trace_id, span_id, parent_id, name, started, ended, attributes) FROM STDIN"


@csrf_exempt
@public
def bare(request: HttpRequest) -> HttpResponse:
    export = ExportTraceServiceRequest.FromString(request.body)
    with transaction.atomic(), connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        for block in export.resource_spans:
            for inner in block.scope_spans:
                for span in inner.spans:
                    copy.write_row(_row(span))
    return HttpResponse(content_type="application/x-protobuf")


def _row(span: Any) -> tuple[Any, ...]:
    told = {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}
    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
    return (*ids, span.name, span.start_time_unix_nano, span.end_time_unix_nano, json.dumps(told))


urlpatterns = [path("bench/bare", bare), path("", include("project.urls"))]

__all__ = ["application"]
