"""From a data set to examples: decode, shrink, encode and record every clip once, and keep all of it on disk."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import nn

from vidprism_edge.calibration.data import Clip, DataSet, Entry, Reader
from vidprism_edge.model.analyzer import Analyzer
from vidprism_edge.runtimes.streaming import gates, geometry, motion, policy, sampler
from vidprism_edge.runtimes.streaming.geometry import Box, Scene
from vidprism_edge.spec import NONE, ModelSpec
from vidprism_edge.training import recording as recordings_of_clips
from vidprism_edge.training import staging
from vidprism_edge.training.recipe import Recipe
from vidprism_edge.training.recording import Float, Recorder, Recording, draw_variants
from vidprism_edge.training.store import ClipStore
from vidprism_edge.training.teaching import Lessons, as_function, hash_weights, make_lessons, teach

Progress = Callable[[str, int, int], None]
CACHE_VERSION = 1
#: A variant's spatial sample may show a frame so far away whose features are there.
NEAR_FRAMES = 4


@dataclass(slots=True)
class Example:
    """A clip ready for training. ``recordings``: the stretches of each variant, the clip as it is first."""

    label: str
    subject: str | None
    store: ClipStore
    recordings: list[list[Recording]] = field(default_factory=list)


def default_cache() -> Path:
    """The folder where sampled streams and features are kept."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("vidprism-edge")) / "training"


def hash_policy() -> str:
    """Names the code that decides what is sampled: recordings of another policy are not read."""
    return _hash_source(gates, geometry, motion, policy, sampler, recordings_of_clips)


def _hash_source(*modules: ModuleType) -> str:
    digest = hashlib.sha256()
    for module in modules:
        digest.update(inspect.getsource(module).encode())
    return digest.hexdigest()[:8]


class Preparer:
    """Makes examples of clips. ``skipped`` says in one line which clips do not decode."""

    def __init__(
        self, spec: ModelSpec, encoder: nn.Module, recipe: Recipe, cache: Path, progress: Progress
    ) -> None:
        self._spec, self._encoder, self._recipe, self._progress = spec, encoder, recipe, progress
        text = f"{CACHE_VERSION}|{spec.streams}|{spec.encoder}|{spec.fit}|{spec.small_px}|{hash_weights(encoder)}"
        self._folder = cache / hashlib.sha256(text.encode()).hexdigest()[:16]
        # clips that other code has made, or from another seed, are not read
        self._making = f"{_hash_source(staging)}-{recipe.seed}"
        self._reader = Reader()
        self.analyzer_loss: float | None = None

    @property
    def skipped(self) -> str | None:
        return self._reader.describe()

    def _store(self, entry: Entry, made: str = "") -> ClipStore:
        return ClipStore(self._folder / (entry.key + (f"-{made}-{self._making}" if made else "")))

    def _clips(self, entries: Sequence[Entry], what: str) -> Iterator[Clip]:
        return self._reader.read(entries, lambda i, n: self._progress(what, i, n))

    def open(self, entries: Sequence[Entry]) -> list[Example]:
        """Decode what has not been decoded before; frames and whole-frame features are kept."""
        found: dict[Path, Example] = {}
        wanted = []
        for entry in entries:
            store = self._store(entry)
            if store.is_there() and store.info.lessons:
                found[entry.path] = Example(entry.label, entry.subject, store)
            else:
                wanted.append(entry)
        for clip in self._clips(wanted, "decode and encode"):
            store = self._store(clip.entry)
            store.write_frames(clip, self._spec)
            self._encode_wholes(clip, store)
            store.save()
            found[clip.entry.path] = Example(clip.entry.label, clip.entry.subject, store)
        return list(found.values())

    def _encode_wholes(self, clip: Clip, store: ClipStore) -> None:
        """Features of the whole frames that an always-open spatial expert sees: the analyzer is taught on them."""
        height, width = clip.frames[0].image.shape[:2]
        whole = Scene(width, height, self._spec.fit).whole
        flat = np.zeros((self._spec.analyzer_grid, self._spec.analyzer_grid), np.float32)
        pixels: dict[tuple[int, Box], Float] = {}

        def keep(stream: str, frame: int, box: Box, sample: Float) -> None:
            if stream == "spatial" and box == whole:
                pixels[frame, box] = sample.copy()

        Recorder(self._spec, lambda *_: (flat, flat), always_open=True, sink=keep).record(clip)
        self._encode(store, pixels)
        store.choose_lessons(sorted(frame for frame, _ in pixels))

    def _encode(self, store: ClipStore, pixels: dict[tuple[int, Box], Float]) -> None:
        """Run the frozen encoder on samples that the store lacks; their features are kept in half precision."""
        keys = [key for key in pixels if key not in store.features]
        for first in range(0, len(keys), 16):
            part = keys[first : first + 16]
            with torch.inference_mode():
                patches, frames = self._encoder(torch.from_numpy(np.stack([pixels[k] for k in part])))
            for key, patch, frame in zip(part, patches.half().numpy(), frames.half().numpy(), strict=True):
                store.put_features(key, patch.copy(), frame.copy())

    def teach(self, analyzer: Analyzer, examples: Sequence[Example]) -> Lessons:
        """Teach the analyzer on these clips alone."""
        lessons = make_lessons(self._spec, [e.store for e in examples])
        self.analyzer_loss = teach(
            analyzer, lessons, self._recipe, lambda i, n: self._progress("teach the analyzer", i, n)
        )
        return lessons

    def record(
        self,
        entries: Sequence[Entry],
        analyzer: Analyzer,
        *,
        variants: int,
        made: str = "",
        region: motion.RegionRule | None = None,
    ) -> list[Example]:
        """Play every clip through sampler and policy, in so many variants; what was played before is read.

        ``made``: not the clips, but what this one of :data:`staging.MAKERS` makes of them. ``region``: as the policy's.
        """
        name = f"{hash_weights(analyzer)}-{hash_policy()}-{self._recipe.seed}-{variants}-{region}"
        found: dict[Path, Example] = {}
        wanted = []
        for entry in entries:
            store = self._store(entry, made)
            kept = store.read_recordings(name) if store.is_there() else None
            if kept is None:
                wanted.append(entry)
            else:
                label = entry.label if made in staging.SAME_LABEL else NONE
                found[entry.path] = Example(label, entry.subject, store, kept)
        for clip in self._clips(wanted, f"sample {made}".rstrip()):
            seed = self._seed(clip.entry)
            shown = staging.MAKERS[made](clip, np.random.default_rng(seed)) if made else clip
            if shown is None:
                continue
            store = self._store(clip.entry, made)
            if not store.is_there():
                store.write_frames(shown, self._spec)
            recordings = self._play(shown, store, analyzer, variants, seed, region)
            store.save()
            store.write_recordings(name, recordings)
            found[clip.entry.path] = Example(shown.entry.label, clip.entry.subject, store, recordings)
        return [found[e.path] for e in entries if e.path in found]

    def _seed(self, entry: Entry) -> int:
        """A clip's own: what else is prepared, or was before, changes nothing."""
        return self._recipe.seed + int(entry.key[:7], 16)

    def _play(
        self,
        clip: Clip,
        store: ClipStore,
        analyzer: Analyzer,
        variants: int,
        seed: int,
        region: motion.RegionRule | None,
    ) -> list[list[Recording]]:
        spatial: dict[tuple[int, Box], Float] = {}
        mean, std = (np.array(v, np.float32)[:, None, None] for v in self._normalisation())

        def keep(stream: str, frame: int, box: Box, pixels: Float) -> None:
            key = (frame, box)
            if stream == "spatial" and key not in store.features:
                spatial[key] = pixels.copy()
            elif stream == "hybrid" and key not in store.crops:
                grey = (pixels * std + mean) * 255.0
                store.put_crop(key, np.clip(np.rint(grey), 0, 255).astype(np.uint8))

        recorder = Recorder(self._spec, as_function(analyzer), sink=keep, region=region)
        recordings = [recorder.record(clip)]
        self._encode(store, spatial)
        for variant in draw_variants(variants, seed)[1:]:
            spatial.clear()
            recordings.append(recorder.record(variant.apply(clip)))
            self._encode(store, _borrow(store, recordings[-1], spatial))
        return recordings

    def _normalisation(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        hybrid = self._spec.streams["hybrid"]
        return hybrid.mean, hybrid.std


def _borrow(
    store: ClipStore, recordings: list[Recording], pixels: dict[tuple[int, Box], Float]
) -> dict[tuple[int, Box], Float]:
    """Let samples of a variant show a frame nearby that is encoded already; return the pixels of the others.

    The frozen encoder is by far the dearest part of the preparation, and what it sees changes slowly.
    """
    needed = {}
    for recording in recordings:
        for i, sample in enumerate(recording.spatial):
            near = [
                f for f, box in store.features if box == sample.box and abs(f - sample.frame) <= NEAR_FRAMES
            ]
            if near:
                frame = min(near, key=lambda f, wanted=sample.frame: abs(f - wanted))  # type: ignore[misc]
                recording.spatial[i] = replace(sample, frame=frame)
            else:
                needed[sample.frame, sample.box] = pixels[sample.frame, sample.box]
    return needed


def select(dataset: DataSet, leave_out: Sequence[str]) -> tuple[DataSet, DataSet | None]:
    """Split a data set into what is trained on and what is left out (None: nothing)."""
    if not leave_out:
        return dataset, None
    return dataset.pick(leave_out, leave_out=True), dataset.pick(leave_out)
