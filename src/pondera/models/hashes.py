"""The sha256 of large files, computed once: a small JSON file remembers it, with the size and the time of change that it holds for."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from pondera.models.fetch import BLOCK, Progress


def hash_of(path: Path, marker: Path, progress: Progress) -> str:
    """The sha256 of a file, computed only if it has changed since it was last remembered."""
    if (known := remembered(path, marker)) is not None:
        return known
    before = path.stat()  # so that a change while we read makes it stale
    fresh = digest(path, progress)
    remember(before, marker, fresh)
    return fresh


def remembered(path: Path, marker: Path) -> str | None:
    """The hash that `marker` holds for the file as it now is, None where it holds none."""
    state = load(marker)
    with contextlib.suppress(OSError):
        stat = path.stat()
        if (state.get("size"), state.get("mtime_ns")) == (stat.st_size, stat.st_mtime_ns):
            return str(state.get("sha256"))
    return None


def remember(stat: os.stat_result, marker: Path, sha256: str) -> None:
    """Write down the hash of a file that looks like `stat`."""
    with contextlib.suppress(OSError):  # in a cache that cannot be written it is only slower
        marker.parent.mkdir(parents=True, exist_ok=True)
        save(marker, {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha256})


def digest(path: Path, progress: Progress) -> str:
    """The sha256, computed; progress goes over bytes."""
    sha, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(8 * BLOCK):
            sha.update(block)
            done += len(block)
            progress("checking", done, total)
    return sha.hexdigest()


def load(path: Path) -> dict[str, Any]:
    """A small JSON object; empty where there is none that can be read."""
    try:
        state = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a small JSON object, at once or not at all."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(state))
    os.replace(fresh, path)
