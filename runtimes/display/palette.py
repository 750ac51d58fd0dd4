"""One colour per expert and one wording of numbers and reasons, the same in picture, table and timeline.

The colours are those of Okabe and Ito, "Color Universal Design" (2008): told apart by colour-blind people, and
light enough for dark text on them.
"""

from __future__ import annotations

#: Experts in the order in which they are shown, each with its colour as #rrggbb.
COLOURS: dict[str, str] = {
    "analyzer": "#CC79A7",
    "spatial": "#56B4E9",
    "hybrid": "#E69F00",
    "temporal": "#009E73",
}
#: What is not an expert's: off, warning, the accent of bars.
GREY = "#8A8F98"
WARNING = "#F0E442"
ACCENT = "#E8EAED"

_REASONS = {"rate": "not due yet", "not_due": "not due yet", "no_motion": "no motion"}


def bgr(colour: str) -> tuple[int, int, int]:
    """Return ``#rrggbb`` as the (blue, green, red) that OpenCV takes."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return blue, green, red


def colour_of(expert: str) -> str:
    """Return the colour of ``expert``; grey for a name that is not known."""
    return COLOURS.get(expert, GREY)


def reason_text(reason: str) -> str:
    """Return a reason's code in words."""
    return _REASONS.get(reason, reason.replace("_", " ")) or "no reason given"


def count_text(number: float) -> str:
    """Return a large count with its metric prefix: 1234567 is ``1.23 M``."""
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= limit * 0.9995:
            return f"{number / limit:.3g} {prefix}"
    return f"{number:.3g} "


def macs_text(macs: float) -> str:
    """Return multiply-accumulates in words: ``1.23 GMAC``."""
    return f"{count_text(macs)}MAC" if macs else "0 MAC"


def percent_text(share: float) -> str:
    """Return a share as a whole percentage; what is not nothing is never shown as 0 %."""
    if 0 < share < 0.01:
        return "<1 %"
    return f"{share:.0%}".replace("%", " %")


def duration_text(milliseconds: float) -> str:
    """Return a duration: ``480 ms``, ``2.1 s``, ``95 s``, ``12 min``."""
    seconds = milliseconds / 1000
    if seconds < 0.9995:
        return f"{milliseconds:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def rate_text(hertz: float) -> str:
    """Return a rate: ``15 Hz``, ``0.5 Hz``; ``off`` where it is zero."""
    return f"{hertz:.3g} Hz" if hertz > 0 else "off"
