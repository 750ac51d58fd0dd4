#!/usr/bin/env bash
# Installs the system packages that the project needs and that are missing: nothing when all are there.
# Without root it names them and fails.
set -euo pipefail

PYTHON=${PYTHON:-python3}
missing=()
need() { # need PACKAGE COMMAND...: PACKAGE is missing when COMMAND fails
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}
library() { ldconfig -p 2>/dev/null | grep -F "$1" || /sbin/ldconfig -p | grep -F "$1"; }
headers() { "$PYTHON" -c 'import os, sysconfig; assert os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))'; }

if ! command -v "$PYTHON" >/dev/null; then
    missing+=(python3 python3-venv python3-dev)
else
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
        echo "error: $PYTHON is $("$PYTHON" -V 2>&1); Python 3.10 or later is needed (make PYTHON=...)" >&2
        exit 1
    }
    need python3-venv "$PYTHON" -c 'import ensurepip, venv'
    need python3-dev headers
fi
need gcc cc --version
# any program links: the C library's headers are there
need libc6-dev bash -c 'echo "int main(void){return 0;}" | cc -x c -o /dev/null -'
need git git --version
# OpenCV's wheel links these two (libGL brings libX11 and libxcb)
need libgl1 library libGL.so.1
need libglib2.0-0 library libgthread-2.0.so.0

[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "error: system packages are missing; install them with: sudo apt-get install ${missing[*]}" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null; then
    echo "error: system packages are missing (their names on Debian): ${missing[*]}" >&2
    exit 1
fi
echo "installing system packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
