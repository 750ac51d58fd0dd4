"""The picture made by arithmetic."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest

from vidprism_edge.errors import SourceError
from vidprism_edge.runtimes.streaming.source import Frame, Source, open_source


def read_all(source: Source) -> list[Frame]:
    return list(iter(source.read, None))


def test_length_size_rate_and_times() -> None:
    source = open_source("synthetic:2:64x48@29.97")
    frames = read_all(source)
    assert [frame.t_ns for frame in frames] == [round(k * 100 * 10**9 / 2997) for k in range(59)]
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}
    assert source.period_ns == 33_366_700
    assert not source.live


def test_it_is_the_same_everywhere() -> None:
    hashed = hashlib.sha256()
    for frame in read_all(open_source("synthetic:5:160x120@15")):
        hashed.update(frame.image.tobytes())
    assert hashed.hexdigest()[:16] == "e61ec083d0f5ca01"


def test_idle_and_motion_alternate() -> None:
    frames = read_all(open_source("synthetic:8:160x120@20"))
    moved = [not np.array_equal(a.image, b.image) for a, b in zip(frames, frames[1:], strict=False)]
    for start in (0, 80):  # cycles of 4 s, the first 1.5 s still
        assert not any(moved[start : start + 29])
        assert all(moved[start + 30 : start + 79])
    changed = np.mean([(frames[40].image != frames[60].image).any(-1).mean()])
    assert 0.02 < changed < 0.5


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (33, 31)])
def test_small_and_odd_sizes(size: tuple[int, int]) -> None:
    frames = read_all(open_source(f"synthetic:2:{size[0]}x{size[1]}@10"))
    assert len(frames) == 20
    assert frames[0].image.shape == (size[1], size[0], 3)


def test_loop_never_ends() -> None:
    source = open_source("synthetic:0.1:16x16@10", loop=True)
    frames = [source.read() for _ in range(50)]
    assert all(frames)
    source.close()
    assert source.read() is None


@pytest.mark.parametrize(
    "name",
    [
        "synthetic", "synthetic:", "synthetic:x", "synthetic:-1", "synthetic:0", "synthetic:3:640", "synthetic:3:0x4",
        "synthetic:3:64x48@0", "synthetic:3:9999999x3", "synthetic:3:64x48@1e9", "synthetic:3\n",
    ],
)  # fmt: skip
def test_wrong_forms_are_one_clear_line(name: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(name)
    assert re.search("expected", str(caught.value))
    assert "\n" not in str(caught.value)
