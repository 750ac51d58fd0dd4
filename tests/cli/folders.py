"""Commands in a folder of their own whose every file is known before and after."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def tree(*folders: Path) -> dict[str, str]:
    """Every path below the folders: "folder", where a link points, or the content's hash."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_symlink():
                found[str(path)] = f"-> {path.readlink()}"
            elif path.is_dir():
                found[str(path)] = "folder"
            else:
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


class Place:
    """A working folder, a home and a folder for temporary files, all below one."""

    def __init__(self, cli: Cli, root: Path) -> None:
        self._cli = cli
        self.root = root
        self.work, self.home, self.temporary = root / "work", root / "home", root / "tmp"
        for folder in (self.work, self.home, self.temporary):
            folder.mkdir()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "XDG_CACHE_HOME": str(self.home / ".cache"),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
        }

    def run(self, *arguments: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        return self._cli(*arguments, cwd=self.work, env=self.environment, timeout=timeout)

    def refuses(self, code: int, *arguments: object) -> str:
        """The command exits with ``code``, says one line, and changes no file; return the line."""
        before = tree(self.root)
        done = self.run(*arguments)
        assert done.returncode == code, f"exit {done.returncode}, expected {code}: {done.stdout}{done.stderr}"
        assert done.stdout == ""
        lines = done.stderr.strip().splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("error: ")
        assert tree(self.root) == before
        return lines[0]
