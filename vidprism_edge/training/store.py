"""What is kept of a clip on disk: small frames, hybrid crops and the frozen encoder's features.

One folder a clip, written once per data set and shared by all runs and folds: a sample is named by the frame that
it shows and its box, so that another analyzer adds the few samples that are missing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from vidprism_edge.calibration.data import Clip
from vidprism_edge.runtimes import _native
from vidprism_edge.runtimes.streaming.geometry import Box
from vidprism_edge.spec import ModelSpec
from vidprism_edge.training.recording import Recording

Bytes = npt.NDArray[np.uint8]
Half = npt.NDArray[np.float16]
SampleKey = tuple[int, Box]


def _name(kind: str, key: SampleKey) -> str:
    frame, box = key
    return "/".join(map(str, (kind, frame, *box)))


class ClipInfo(msgspec.Struct, frozen=True):
    """What the small frames do not tell: the source's size and frame period."""

    width: int
    height: int
    period_ns: int
    #: Whole frames whose features teach the analyzer; those that runs add later do not.
    lessons: tuple[int, ...] = ()
    #: As the clip's.
    span: tuple[int, int] | None = None


class ClipStore:
    """Frames and samples of one clip. ``frames``: uint8 [F, h, w, 3], the small whole frames, mapped from disk."""

    info: ClipInfo

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.features: dict[SampleKey, tuple[Half, Half]] = {}
        self.crops: dict[SampleKey, Bytes] = {}
        self.frames: Bytes = np.zeros((0, 0, 0, 3), np.uint8)
        self._changed = False
        if self.is_there():
            self.frames = np.load(folder / "frames.npy", mmap_mode="r", allow_pickle=False)
            self.info = msgspec.json.decode((folder / "clip.json").read_bytes(), type=ClipInfo)
            self._read_samples()

    def is_there(self) -> bool:
        return (self.folder / "frames.npy").is_file()

    def _read_samples(self) -> None:
        path = self.folder / "samples.safetensors"
        if not path.is_file():
            return
        tensors = load_file(path)
        for name, value in tensors.items():
            kind, frame, *box = name.split("/")
            key: SampleKey = (int(frame), tuple(map(int, box)))  # type: ignore[assignment]
            if kind == "crop":
                self.crops.setdefault(key, value)
            elif kind == "patches":
                self.features.setdefault(key, (value, tensors[_name("frame", key)]))

    def write_frames(self, clip: Clip, spec: ModelSpec) -> None:
        """Shrink every frame as the runtime's ring of small frames does, and keep them."""
        height, width = clip.frames[0].image.shape[:2]
        scale = min(spec.small_px, max(height, width)) / max(height, width)
        shape = (len(clip.frames), max(1, round(height * scale)), max(1, round(width * scale)), 3)
        frames = np.empty(shape, np.uint8)
        for i, frame in enumerate(clip.frames):
            if frame.image.shape == clip.frames[0].image.shape:
                _native.resize_area_u8(frame.image, frames[i])
        self.folder.mkdir(parents=True, exist_ok=True)
        period_ns = clip.period_ns or int(np.median(np.diff([f.t_ns for f in clip.frames])))
        self.info = ClipInfo(width, height, period_ns, span=clip.span)
        self._write_info()
        part = self.folder / f"frames.{os.getpid()}.part"
        with part.open("wb") as file:
            np.save(file, frames, allow_pickle=False)
        os.replace(part, self.folder / "frames.npy")
        self.frames = np.load(self.folder / "frames.npy", mmap_mode="r", allow_pickle=False)

    def _write_info(self) -> None:
        part = self.folder / f"clip.{os.getpid()}.part"
        part.write_bytes(msgspec.json.encode(self.info))
        os.replace(part, self.folder / "clip.json")

    def choose_lessons(self, frames: Sequence[int]) -> None:
        """Say which whole frames teach the analyzer."""
        self.info = msgspec.structs.replace(self.info, lessons=tuple(frames))
        self._write_info()

    def put_crop(self, key: SampleKey, pixels: Bytes) -> None:
        self.crops[key], self._changed = pixels, True

    def put_features(self, key: SampleKey, patches: Half, frame: Half) -> None:
        self.features[key], self._changed = (patches, frame), True

    def save(self) -> None:
        """Add what is new to the file; a reader sees the old file or the new one, and two runs lose nothing."""
        if not self._changed:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._read_samples()
            tensors: dict[str, npt.NDArray] = {_name("crop", key): value for key, value in self.crops.items()}
            for key, (patches, frame) in self.features.items():
                tensors[_name("patches", key)], tensors[_name("frame", key)] = patches, frame
            part = self.folder / f"samples.{os.getpid()}.part"
            save_file(tensors, part)
            os.replace(part, self.folder / "samples.safetensors")
        self._changed = False

    def holds(self, recording: Recording) -> bool:
        """Whether every sample that the recording names is here."""
        return all((s.frame, s.box) in self.features for s in recording.spatial) and all(
            (s.frame, s.box) in self.crops for s in recording.hybrid
        )

    def read_recordings(self, name: str) -> list[list[Recording]] | None:
        """The recordings of every variant that were kept under ``name``; None where they or samples are missing."""
        path = self.folder / f"recordings-{name}.json"
        if not path.is_file():
            return None
        found = msgspec.json.decode(path.read_bytes(), type=list[list[Recording]])
        return found if all(self.holds(part) for variant in found for part in variant) else None

    def write_recordings(self, name: str, recordings: list[list[Recording]]) -> None:
        part = self.folder / f"recordings.{os.getpid()}.part"
        part.write_bytes(msgspec.json.encode(recordings))
        os.replace(part, self.folder / f"recordings-{name}.json")
