"""Files of strangers: what of them a browser may show, and how they are sent (RELIABILITY.md S2)."""

import base64
import binascii
import re
from dataclasses import dataclass

from django.http import HttpResponse
from django.utils.http import content_disposition_header

from runs.exact import Json
from runs.pages import text

# Images that can hold no script, by their first bytes: a type is only what somebody says.
_IMAGES = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}
# Types that a download may keep; any other is sent as bytes.
_KEPT = {"text/plain", "text/csv", "text/markdown", "application/json", "application/pdf", *_IMAGES}
_DATA_URI = re.compile(r"data:([\w.+-]+/[\w.+-]+)?[^,]{0,200};base64,", re.ASCII)


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file part of a message or an artifact. `size` is bytes, about; `data` its base64, "" for a link."""

    number: int
    name: str
    media_type: str
    size: int
    data: str
    uri: str

    @property
    def is_image(self) -> bool:
        """As far as its name goes; whether it is one is found out when it is sent."""
        return self.media_type in _IMAGES and bool(self.data)

    def content(self) -> bytes | None:
        """The bytes; None where there are none, or what is there is not base64."""
        try:
            return base64.b64decode(self.data, validate=False) if self.data else None
        except (binascii.Error, ValueError):
            return None


def file_part(part: dict[str, Json], number: int) -> FilePart | None:
    """The file of an A2A part, or None where the part is something else."""
    file = part.get("file")
    if not isinstance(file, dict):
        return None
    data, uri = file.get("bytes"), file.get("uri")
    data, uri = data if isinstance(data, str) else "", uri if isinstance(uri, str) else ""
    media_type = str(file.get("mimeType") or file.get("mime_type") or "")
    if not data and (found := _DATA_URI.match(uri)):
        data, uri, media_type = uri[found.end() :], "", media_type or found[1] or ""
    name = text.visible(str(file.get("name") or (uri.rpartition("/")[2] if uri else "") or "file"))
    return FilePart(
        number,
        name[:200],
        text.visible(media_type)[:100].lower(),
        len(data) * 3 // 4,
        data,
        text.visible(uri)[:2000],
    )


def send(content: bytes, name: str, media_type: str, *, inline: bool = False) -> HttpResponse:
    """The bytes as a download; `inline` is heeded only for an image that is one. Nothing in it can run."""
    media_type = media_type.partition(";")[0].strip().lower()
    image = is_image(content, media_type)
    if not image and (media_type not in _KEPT or media_type in _IMAGES):
        media_type = "application/octet-stream"
    charset = "; charset=utf-8" if media_type.startswith("text/") else ""
    response = HttpResponse(content, content_type=f"{media_type}{charset}")
    response["Content-Disposition"] = (
        content_disposition_header(not (inline and image), safe_name(name)) or "attachment"
    )
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return response


def is_image(content: bytes, media_type: str) -> bool:
    return media_type in _IMAGES and _IMAGES[media_type].match(content) is not None


def may_be_image(media_type: str) -> bool:
    return media_type in _IMAGES


def safe_name(name: str) -> str:
    """The last part of a path, without what a header or a file system minds."""
    last = re.sub(r"[\x00-\x1f\x7f\ud800-\udfff\"]", "_", name).replace("\\", "/").rpartition("/")[2]
    return last.strip(". ")[:150] or "file"
