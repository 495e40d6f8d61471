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
# Sounds that a browser plays, likewise.
_SOUNDS = {
    "audio/mpeg": re.compile(rb"ID3|\xff[\xe2-\xff]"),
    "audio/wav": re.compile(rb"RIFF....WAVE", re.DOTALL),
    "audio/ogg": re.compile(rb"OggS"),
    "audio/flac": re.compile(rb"fLaC"),
    "audio/webm": re.compile(rb"\x1aE\xdf\xa3"),
    "audio/mp4": re.compile(rb"....ftyp", re.DOTALL),
}
_SHOWN = _IMAGES | _SOUNDS
_ALIASES = {
    "audio/mp3": "audio/mpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/x-m4a": "audio/mp4",
}
# Types that a download may keep; any other is sent as bytes.
_KEPT = {"text/plain", "text/csv", "text/markdown", "application/json", "application/pdf", *_SHOWN}
_DATA_URI = re.compile(r"data:([\w.+-]+/[\w.+-]+)?[^,]{0,200};base64,", re.ASCII)


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file part of a message or an artifact.

    size: bytes, about. data: its base64, "" where that was not read. is_held: we have its bytes; else it is
    a link.
    """

    number: int
    name: str
    media_type: str
    size: int
    data: str
    uri: str
    is_held: bool

    @property
    def is_image(self) -> bool:
        """As far as its name goes; whether it is one is found out when it is sent."""
        return self.media_type in _IMAGES and self.is_held

    @property
    def is_sound(self) -> bool:
        return self.media_type in _SOUNDS and self.is_held

    def content(self) -> bytes | None:
        """The bytes; None where there are none, or what is there is not base64."""
        try:
            return base64.b64decode(self.data, validate=False) if self.data else None
        except (binascii.Error, ValueError):
            return None


def file_part(part: dict[str, Json], number: int, *, is_glance: bool = False) -> FilePart | None:
    """The file of an A2A part, or None where the part is something else.

    `is_glance`: of its bytes only the length was read, under `length`, and of its address the beginning, with
    its length under `uri_length`.
    """
    file = part.get("file")
    if not isinstance(file, dict):
        return None
    data, uri = file.get("bytes"), file.get("uri")
    data, uri = data if isinstance(data, str) else "", uri if isinstance(uri, str) else ""
    media_type = str(file.get("mimeType") or file.get("mime_type") or "")
    length = file.get("length") if is_glance else len(data)
    if not length and (found := _DATA_URI.match(uri)):
        length = file.get("uri_length") if is_glance else len(uri) - found.end()
        data, uri, media_type = uri[found.end() :], "", media_type or found[1] or ""
    name = text.visible(str(file.get("name") or (uri.rpartition("/")[2] if uri else "") or "file"))
    media_type = text.visible(media_type)[:100].lower()
    return FilePart(
        number,
        name[:200],
        _ALIASES.get(media_type, media_type),
        (length or 0) * 3 // 4,
        data,
        text.visible(uri)[:2000],
        bool(length),
    )


def send(content: bytes, name: str, media_type: str, *, inline: bool = False) -> HttpResponse:
    """The bytes as a download; `inline` is heeded only for an image or a sound that is one. Nothing in it can
    run."""
    media_type = media_type.partition(";")[0].strip().lower()
    media_type = _ALIASES.get(media_type, media_type)
    is_shown = media_type in _SHOWN and _SHOWN[media_type].match(content) is not None
    if not is_shown and (media_type not in _KEPT or media_type in _SHOWN):
        media_type = "application/octet-stream"
    charset = "; charset=utf-8" if media_type.startswith("text/") else ""
    response = HttpResponse(content, content_type=f"{media_type}{charset}")
    response["Content-Disposition"] = (
        content_disposition_header(not (inline and is_shown), safe_name(name)) or "attachment"
    )
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return response


def is_image(content: bytes, media_type: str) -> bool:
    return media_type in _IMAGES and _IMAGES[media_type].match(content) is not None


def safe_name(name: str) -> str:
    """The last part of a path, without what a header or a file system minds."""
    last = re.sub(r"[\x00-\x1f\x7f\ud800-\udfff\"]", "_", name).replace("\\", "/").rpartition("/")[2]
    return last.strip(". ")[:150] or "file"
