#!/usr/bin/env bash
# Makes a Python for aarch64 that runs here under emulation, a wheel of this tree that it has built itself, and beside
# it what a device installs: scripts/aarch64.sh [FOLDER]. FOLDER/python starts it, FOLDER/dist has the wheel.
# Nothing on this system changes: Debian's arm64 packages are unpacked into FOLDER. `make aarch64` runs tests with it.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${1:-build/aarch64}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
root=$folder/root
# later ones end at import under qemu 7.2 (Debian 12)
engine='onnxruntime<1.28'

for program in qemu-aarch64-static aarch64-linux-gnu-gcc apt-get dpkg-deb; do
    command -v "$program" >/dev/null && continue
    echo "error: $program is missing; on Debian: apt-get install qemu-user-static gcc-aarch64-linux-gnu" >&2
    exit 1
done

# a package database of its own, which knows arm64 alone and no installed package
make_root() {
    local apt=$folder/apt
    mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$root"
    touch "$apt/status"
    local options=(-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o "Dir::State=$apt/state"
        -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache" -o Debug::NoLocking=1)
    [ "$(id -u)" -ne 0 ] || options+=(-o APT::Sandbox::User=root)
    apt-get "${options[@]}" update
    apt-get "${options[@]}" install --yes --no-install-recommends --download-only \
        python3 libpython3-dev libstdc++6 libgl1 libglib2.0-0
    local package
    for package in "$apt"/cache/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
    rm -r "$apt"
}

# sys.executable is this script, so that what starts another Python gets the emulated one
write_python() {
    local binary
    binary=$(readlink -f "$root/usr/bin/python3")
    cat >"$folder/python" <<END
#!/bin/sh
PYTHONHOME=$root/usr PYTHONPATH=\${PYTHONPATH-$folder/site} PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1 \\
    exec $(command -v qemu-aarch64-static) -cpu max -L $root -0 $folder/python $binary "\$@"
END
    chmod +x "$folder/python"
}

version='import sys; print("%d.%d" % sys.version_info[:2])'

# pip takes each tag literally; the last is that of the wheel that is built here
install_into() { # install_into TARGET REQUIREMENT...
    local platforms=(--platform linux_aarch64 --platform manylinux2014_aarch64) minor
    for minor in $(seq 17 36); do platforms+=(--platform "manylinux_2_${minor}_aarch64"); done
    grep -v '^onnxruntime==' constraints.txt >"$folder/constraints.txt"
    local target=$1
    shift
    .venv/bin/python -m pip --disable-pip-version-check --quiet install --no-compile --target "$target" \
        --only-binary=:all: --implementation cp --python-version "$("$folder/python" -c "$version")" \
        "${platforms[@]}" -c "$folder/constraints.txt" "$@"
}

build_wheel() {
    rm -rf "$folder/tree" "$folder/dist"
    mkdir "$folder/tree" "$folder/dist"
    git ls-files -z | tar --create --null --files-from=- | tar --extract --directory="$folder/tree"
    (cd "$folder/tree" && PYTHONPATH=$folder/tools CPPFLAGS="-idirafter $root/usr/include" CFLAGS=-g0 "$folder/python" \
        -c 'from setuptools import build_meta; build_meta.build_wheel("../dist")' >"$folder/build.log" 2>&1) || {
        cat "$folder/build.log" >&2
        exit 1
    }
}

[ -e "$root/usr/bin/python3" ] || make_root
write_python
[ -d "$folder/tools" ] || install_into "$folder/tools" setuptools wheel
build_wheel
rm -rf "$folder/site"
install_into "$folder/site" "$folder"/dist/*.whl "$engine" pytest pytest-timeout hypothesis pillow
echo "$folder/dist: $(ls "$folder/dist")"
echo "run it: $folder/python -m vidprism_edge.cli.main"
