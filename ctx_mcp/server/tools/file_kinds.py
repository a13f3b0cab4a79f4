"""What a file is that is no text, told by its first bytes."""

from __future__ import annotations

from typing import NamedTuple

IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""What models are shown as images. Source: the image types that all hosts of the protocol take."""


class FileKind(NamedTuple):
    name: str
    mime_type: str


_UNKNOWN = FileKind("binary file", "application/octet-stream")
_RIFF = b"RIFF"
_KINDS: tuple[tuple[int, bytes, FileKind], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", FileKind("PNG image", "image/png")),
    (0, b"\xff\xd8\xff", FileKind("JPEG image", "image/jpeg")),
    (0, b"GIF87a", FileKind("GIF image", "image/gif")),
    (0, b"GIF89a", FileKind("GIF image", "image/gif")),
    (8, b"WEBP", FileKind("WebP image", "image/webp")),
    (8, b"WAVE", FileKind("WAV audio", "audio/wav")),
    (0, b"II*\0", FileKind("TIFF image", "image/tiff")),
    (0, b"MM\0*", FileKind("TIFF image", "image/tiff")),
    (0, b"%PDF-", FileKind("PDF document", "application/pdf")),
    (0, b"PK\x03\x04", FileKind("ZIP archive or office document", "application/zip")),
    (0, b"PK\x05\x06", FileKind("empty ZIP archive", "application/zip")),
    (0, b"\x1f\x8b", FileKind("gzip file", "application/gzip")),
    (0, b"\x28\xb5\x2f\xfd", FileKind("Zstandard file", "application/zstd")),
    (0, b"\xfd7zXZ\0", FileKind("xz file", "application/x-xz")),
    (0, b"BZh", FileKind("bzip2 file", "application/x-bzip2")),
    (0, b"7z\xbc\xaf\x27\x1c", FileKind("7z archive", "application/x-7z-compressed")),
    (257, b"ustar", FileKind("tar archive", "application/x-tar")),
    (0, b"\x7fELF", FileKind("ELF program", "application/x-elf")),
    (0, b"SQLite format 3\0", FileKind("SQLite database", "application/vnd.sqlite3")),
    (0, b"PAR1", FileKind("Parquet table", "application/vnd.apache.parquet")),
    (0, b"\0asm", FileKind("WebAssembly module", "application/wasm")),
    (4, b"ftyp", FileKind("MP4 or HEIF media", "video/mp4")),
    (0, b"ID3", FileKind("MP3 audio", "audio/mpeg")),
    (0, b"OggS", FileKind("Ogg media", "application/ogg")),
    (0, b"fLaC", FileKind("FLAC audio", "audio/flac")),
)


def kind_of(head: bytes) -> FileKind:
    """Return the kind of a file that is no text, from its first few hundred bytes."""
    for offset, magic, kind in _KINDS:
        is_inside_riff = offset != 8 or head.startswith(_RIFF)
        if head.startswith(magic, offset) and is_inside_riff:
            return kind
    return _UNKNOWN
