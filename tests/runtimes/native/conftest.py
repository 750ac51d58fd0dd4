"""Every test of the pixels runs once a kernel set, pinned, and leaves the one in use as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vidprism_edge.runtimes import _native


@pytest.fixture(params=_native.simd_available())
def kernels(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _native.simd_selected()
    _native.simd_select(request.param)
    yield request.param
    _native.simd_select(before)
