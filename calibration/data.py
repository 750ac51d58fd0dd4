"""A folder of labelled clips: one CSV with the columns ``path,label[,subject][,start,end]``, and the videos beside it.

Training, calibration and evaluation read data through this module. It needs neither torch nor an engine.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from vidprism_edge.errors import SourceError, UsageError
from vidprism_edge.runtimes.streaming.source import Frame, Source, open_source

REQUIRED = ("path", "label")
DEFAULT_CSV = "clips.csv"
#: So much of a file's start and end tells it from others.
KEY_BYTES = 1 << 20
VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the CSV. ``start_s`` and ``end_s`` are seconds in the video; None: from its start, to its end."""

    path: Path
    label: str
    subject: str | None = None
    start_s: float | None = None
    end_s: float | None = None

    @property
    def key(self) -> str:
        """Names the clip's content for caches, wherever the file lies: its size, both its ends, the part used."""
        size = self.path.stat().st_size
        digest = hashlib.sha256(f"{size}|{self.start_s}|{self.end_s}|".encode())
        with self.path.open("rb") as file:
            digest.update(file.read(KEY_BYTES))
            file.seek(max(0, size - KEY_BYTES))
            digest.update(file.read(KEY_BYTES))
        return digest.hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class DataSet:
    """Labelled clips. ``labels`` are in the order in which the CSV first names them, or as they were asked for."""

    root: Path
    entries: tuple[Entry, ...]
    labels: tuple[str, ...]

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects that the CSV names, sorted; empty where it has no such column."""
        return tuple(sorted({e.subject for e in self.entries if e.subject is not None}))

    def pick(self, subjects: Sequence[str] | None, *, leave_out: bool = False) -> DataSet:
        """The clips of these subjects only, or of all others. The labels stay the same.

        Errors: :class:`UsageError` for a subject that no line names, and for a class that is left without a clip.
        """
        if subjects is None:
            return self
        if unknown := sorted(set(subjects) - set(self.subjects)):
            known = ", ".join(self.subjects) or "none: the CSV has no column subject"
            raise UsageError(f"no clip of subject {', '.join(unknown)} in {self.root}; known: {known}")
        kept = tuple(e for e in self.entries if (e.subject in subjects) != leave_out)
        part = replace(self, entries=kept)
        part.check_classes()
        return part

    def check_classes(self) -> None:
        """Raise :class:`UsageError` if a class has no clip."""
        if empty := [name for name in self.labels if not any(e.label == name for e in self.entries)]:
            raise UsageError(
                f"no clip of class {', '.join(empty)} in {self.root}; add clips or take the class away"
            )


def read_dataset(folder: str | Path, *, labels: Sequence[str] | None = None) -> DataSet:
    """Read the CSV of a folder (or a CSV file itself). Nothing is decoded yet.

    ``labels``: the classes that must be there, in this order. Errors: :class:`UsageError` with the line, for
    a missing folder, file or column, an empty cell, a number that is none, an unknown or empty class.
    """
    table = _find_csv(Path(folder))
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {table}: {error}; expected a CSV file in UTF-8") from None
    rows = csv.DictReader(text.splitlines())
    columns = [name.strip() for name in rows.fieldnames or ()]
    rows.fieldnames = columns
    if missing := [name for name in REQUIRED if name not in columns]:
        raise UsageError(
            f"{table} has the columns {', '.join(columns) or '(none)'} and lacks {', '.join(missing)}; "
            "expected path,label and, where they are known, subject,start,end"
        )
    entries = tuple(_read_row(table, rows.line_num, row) for row in rows)
    if not entries:
        raise UsageError(f"{table} lists no clip; expected one line a clip below {','.join(columns)}")
    found = tuple(dict.fromkeys(e.label for e in entries))
    if labels is not None and (unknown := sorted(set(found) - set(labels))):
        raise UsageError(f"{table} has the class {', '.join(unknown)}; expected only {', '.join(labels)}")
    dataset = DataSet(table.parent, entries, found if labels is None else tuple(labels))
    dataset.check_classes()
    return dataset


def _find_csv(folder: Path) -> Path:
    if folder.is_file():
        return folder
    if not folder.is_dir():
        raise UsageError(f"{folder} does not exist; expected a folder with a CSV file of clips")
    if (folder / DEFAULT_CSV).is_file():
        return folder / DEFAULT_CSV
    tables = sorted(folder.glob("*.csv"))
    if len(tables) != 1:
        what = ", ".join(t.name for t in tables) or "none"
        raise UsageError(f"{folder} must hold one CSV file or {DEFAULT_CSV}; there: {what}")
    return tables[0]


def _read_row(table: Path, line: int, row: dict[str, str | None]) -> Entry:
    # a line that is too long has its rest under the name None
    cells = {name: (value or "").strip() for name, value in row.items() if name is not None}
    for name in REQUIRED:
        if not cells[name]:
            raise UsageError(f"{table}, line {line}: {name} is empty; expected one in every line")
    path = table.parent / cells["path"]
    if not path.is_file():
        raise UsageError(
            f"{table}, line {line}: {path} does not exist; paths are relative to the CSV's folder"
        )
    start_s, end_s = (_read_seconds(table, line, name, cells.get(name, "")) for name in ("start", "end"))
    if end_s is not None and end_s <= (start_s or 0.0):
        raise UsageError(
            f"{table}, line {line}: end is {end_s:g} and start {start_s or 0:g}; expected end after start"
        )
    return Entry(path, cells["label"], cells.get("subject") or None, start_s, end_s)


def _read_seconds(table: Path, line: int, name: str, text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"{table}, line {line}: {name} is {text!r}; expected seconds from the video's start")
    return value


def read_folder(folder: str | Path, label: str) -> tuple[Entry, ...]:
    """Every video of a folder without a CSV, under one label: negatives.

    The last part of the path may be a pattern, such as ``clips/idle_*.mp4``. Errors: :class:`UsageError`.
    """
    root, pattern = Path(folder), "*"
    if not root.is_dir() and "*" in root.name:
        root, pattern = root.parent, root.name
    if not root.is_dir():
        raise UsageError(f"{root} does not exist; expected a folder of videos")
    files = [f for f in sorted(root.glob(pattern)) if f.suffix.lower() in VIDEO_SUFFIXES]
    if not files:
        raise UsageError(f"{root} holds no video; expected {', '.join(VIDEO_SUFFIXES)} files")
    return tuple(Entry(f, label) for f in files)


@dataclass(slots=True)
class Clip:
    """A decoded clip: its frames with timestamps from 0, and the source's period where the file tells it."""

    entry: Entry
    frames: list[Frame]
    period_ns: int | None
    #: First frame in which the label is to be seen, and the first in which it no longer is; None: it is in all.
    span: tuple[int, int] | None = None

    @property
    def frame_ns(self) -> int:
        """The source's period, or the mean time between frames where the file does not tell it."""
        span_ns = self.frames[-1].t_ns - self.frames[0].t_ns
        return self.period_ns or round(span_ns / (len(self.frames) - 1))


@contextmanager
def play(entry: Entry) -> Iterator[tuple[Iterator[Frame], int | None]]:
    """Open a clip through the runtime's own source → its frames one by one, and the source's period.

    Timestamps and numbers count from the first frame of the part that is used. Errors: :class:`SourceError`.
    """
    source = open_source(str(entry.path))
    try:
        yield _cut(source, entry), source.period_ns
    finally:
        source.close()


def _cut(source: Source, entry: Entry) -> Iterator[Frame]:
    start_ns = round((entry.start_s or 0.0) * 1e9)
    end_ns = None if entry.end_s is None else round(entry.end_s * 1e9)
    origin, index = None, 0
    while (frame := source.read()) is not None:
        if frame.t_ns < start_ns or (end_ns is not None and frame.t_ns >= end_ns):
            continue
        origin = frame.t_ns if origin is None else origin
        yield replace(frame, t_ns=frame.t_ns - origin, index=index, reset=frame.reset if index else None)
        index += 1


def decode(entry: Entry) -> Clip:
    """Decode a whole clip. Errors: :class:`SourceError`, also where no frame is left."""
    with play(entry) as (cut, period_ns):
        frames = list(cut)
    if len(frames) < 2:
        raise SourceError(
            f"{entry.path} has {len(frames)} frames in the part that is asked for; expected at least 2"
        )
    return Clip(entry, frames, period_ns)


@dataclass(slots=True)
class Reader:
    """Decodes the clips of a data set; those that do not decode are skipped, counted and named at the end."""

    skipped: dict[Path, str] = field(default_factory=dict)

    def read(
        self, entries: Sequence[Entry], progress: Callable[[int, int], None] = lambda *_: None
    ) -> Iterator[Clip]:
        """Yield the clips that decode, in order."""
        for done, entry in enumerate(entries):
            progress(done, len(entries))
            try:
                yield decode(entry)
            except SourceError as error:
                self.skipped[entry.path] = str(error)
        progress(len(entries), len(entries))

    def describe(self) -> str | None:
        """One line that counts and names what was skipped; None where everything was read."""
        if not self.skipped:
            return None
        reasons = "; ".join(f"{path.name} ({reason})" for path, reason in self.skipped.items())
        return f"{len(self.skipped)} clips skipped because they do not decode: {reasons}"
