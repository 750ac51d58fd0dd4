"""Builds the native extension; metadata and packages are in setup.cfg."""

from __future__ import annotations

import os
import sys
from glob import glob

from setuptools import Extension, setup

# Py_buffer is in the limited API from 3.11 on: one abi3 wheel from there, one wheel a version before
LIMITED = sys.version_info >= (3, 11)
BINDING = "runtimes/native/binding/_nativemodule.c"

extensions = []
if os.path.exists(BINDING):
    extensions.append(
        Extension(
            "vidprism_edge.runtimes._native",
            sources=[BINDING, *sorted(glob("runtimes/native/src/*.c"))],
            include_dirs=["runtimes/native/include", "runtimes/native/src"],
            depends=sorted(glob("runtimes/native/**/*.h", recursive=True)),
            define_macros=[("Py_LIMITED_API", "0x030B0000")] if LIMITED else [],
            py_limited_api=LIMITED,
            extra_compile_args=[
                "-std=c11",
                "-O3",
                "-Wall",
                "-Wextra",
                "-ffp-contract=off",
                "-fvisibility=hidden",
            ],
        )
    )

setup(
    ext_modules=extensions,
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED and extensions else {},
)
