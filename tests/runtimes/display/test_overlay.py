"""The annotated picture: sizes, what is lit, and that the frame itself stays as it was."""

from __future__ import annotations

import numpy as np
import pytest

from tests.runtimes.display.made_predictions import ALWAYS_ON, prediction
from vidprism_edge.runtimes.display import overlay, text
from vidprism_edge.runtimes.display.overlay import LEAST_HEIGHT, LEAST_WIDTH, draw
from vidprism_edge.runtimes.display.palette import COLOURS, bgr


def picture(height: int, width: int, value: int = 90) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def drawn(image: np.ndarray, made=None, **changes) -> np.ndarray:
    return draw(image, made, **{"fps": 25.0, "latency_ms": 12.0, "always_on_macs": ALWAYS_ON, **changes})


def holds(image: np.ndarray, colour: str) -> int:
    """Number of pixels of exactly this colour."""
    return int((image == bgr(colour)).all(axis=2).sum())


def strip(image: np.ndarray, index: int) -> np.ndarray:
    """The badge of the expert at ``index`` in a drawn picture of 640 x 480."""
    wide = image.shape[1] // 4
    return image[480:, index * wide : (index + 1) * wide]


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 900), (900, 1), (17, 33), (240, 320), (480, 640), (1080, 1920), (2160, 3840)]
)
@pytest.mark.parametrize("made", [None, prediction()])
def test_every_size_is_drawn_large_enough_and_the_frame_is_not_changed(size, made):
    image = picture(*size)
    before = image.copy()
    found = drawn(image, made)
    np.testing.assert_array_equal(image, before)
    assert found.dtype == np.uint8
    assert not np.shares_memory(found, image)
    assert found.shape[0] > max(size[0], LEAST_HEIGHT)
    assert found.shape[1] >= max(size[1], LEAST_WIDTH)


def test_a_view_with_negative_strides_and_a_read_only_frame_are_drawn():
    image = np.arange(480 * 640 * 3, dtype=np.uint32).astype(np.uint8).reshape(480, 640, 3)
    flipped = image[::-1, ::-1]
    flipped.flags.writeable = False
    found = drawn(flipped)
    np.testing.assert_array_equal(found[200:470, :640], flipped[200:470])


def test_a_frame_that_is_large_enough_is_not_resampled():
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    np.testing.assert_array_equal(drawn(image)[150:480], image[150:])


@pytest.mark.parametrize("fired", [{}, {"analyzer": 2}, {"spatial": 1, "temporal": 7}])
def test_the_badges_of_experts_that_ran_are_lit(fired):
    made = prediction(experts_fired=fired, boxes={}, skipped={})
    found = drawn(picture(480, 640), made)
    for index, name in enumerate(COLOURS):
        assert (holds(strip(found, index), COLOURS[name]) > 3000) == (name in fired)


def test_a_badge_tells_the_reason():
    texts = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "put", lambda _image, words, *_rest: texts.append(words))
        made = prediction(
            skipped={"spatial": "still picture", "hybrid": "rate"}, experts_fired={"analyzer": 1}
        )
        drawn(picture(480, 640), made)
    assert {"still picture", "not due yet", "1 run, 100 ms ago", "0.5 Hz"} <= set(texts)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"trained": False}, "untrained: labels mean nothing yet"),
        ({"ready": False}, "warming up"),
        ({"partial": True}, "short clip"),
    ],
)
def test_what_to_think_of_the_labels_is_written(changes, told, monkeypatch):
    texts = []
    monkeypatch.setattr(text, "put", lambda _image, words, *_rest: texts.append(words))
    drawn(picture(480, 640), prediction(**changes))
    assert told in texts
    texts.clear()
    drawn(picture(480, 640), prediction())
    assert told not in texts


@pytest.mark.parametrize("size", [(240, 320), (480, 640)])
def test_a_box_is_drawn_where_it_is_in_the_source(size):
    box = (size[1] // 4, size[0] // 4, size[1] // 2, size[0] // 2)
    found = drawn(picture(*size), prediction(boxes={"temporal": box}, experts_fired={}))
    rows, columns = np.nonzero((found[:470] == bgr(COLOURS["temporal"])).all(axis=2))
    assert (columns.min(), columns.max()) == pytest.approx((160, 480), abs=4)
    assert (rows.min(), rows.max()) == pytest.approx((120, 360), abs=4)


@pytest.mark.parametrize("box", [(-50, -50, 20, 20), (600, 400, 500, 500), (0, 0, 0, 0), (10, 10, 1, 1)])
def test_boxes_beyond_the_picture_do_no_harm(box):
    drawn(picture(480, 640), prediction(boxes={"spatial": box, "stranger": box}))


def test_the_same_in_opencv_4(monkeypatch):
    monkeypatch.setattr(text, "_face", lambda: None)
    found = drawn(picture(480, 640), prediction(trained=False))
    assert found.shape == (544, 640, 3)
    assert text.width("abc", 15) > text.width("ab", 15) > 0


@pytest.mark.parametrize("words", ["a", "two words", "x" * 300, "Ünïcode 漢字 …"])
def test_text_is_cut_to_its_room(words):
    for limit in (0, 10, 60, 400):
        assert text.width(text.shorten(words, 15, limit), 15) <= max(0, limit)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3)),
    ],
)
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(ValueError, match=r"expected uint8 \[H, W, 3\]"):
        drawn(image)


def test_long_names_and_odd_numbers_fit():
    made = prediction(
        label="l" * 200,
        scores={"l" * 200: float("nan"), "b": 1.5, "c": -0.1},
        macs=0,
        ages_ms={"temporal": None},
    )
    drawn(picture(480, 640), made, fps=0.0, latency_ms=None, always_on_macs=0)
    assert overlay.TOP == 3
