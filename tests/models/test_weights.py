"""The cache: what is fetched, checked, converted, kept and refused. All sources here are made up."""

import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from collections import namedtuple
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from filelock import FileLock
from gguf import GGMLQuantizationType as Type

from pondera.errors import BadInput, WeightsError
from pondera.models import gguf_convert, hashes, weights
from pondera.models.fetch import Progress, from_hub, from_mirror
from pondera.models.known import Known, Mirror
from pondera.models.weights import models_table, pull, ready, verify
from tests.models.test_gguf_convert import tiny_gguf

NAME = "tiny-1m"


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """The file as its publisher has it: one tensor of a type that the engine cannot read."""
    path = tmp_path / "origin.gguf"
    tiny_gguf(path, {"a.weight": Type.Q5_0, "b.weight": Type.Q4_0})
    return path


@pytest.fixture
def known(origin: Path, monkeypatch: pytest.MonkeyPatch) -> Known:
    sha256 = hashes.digest(origin, weights.silent)
    mirror = Mirror(("tiny-part1",), "1.0", ".bin")
    entry = Known(NAME, "Tiny", 384, origin.stat().st_size, sha256, "a/b", "tiny.gguf", "0" * 40, mirror, "Apache-2.0", "for tests")
    monkeypatch.setattr(weights, "KNOWN", {NAME: entry, "other-7b": entry})
    return entry


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


class Giver:
    """A source that gives a file's content and counts how often it is asked."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked = 0

    def __call__(self, known: Known, folder: Path, progress: Progress) -> Path:
        self.asked += 1
        progress("fetching", len(self.content), known.size)
        part = folder / "fetched.part"
        part.write_bytes(self.content)
        return part


def closed(reason: str) -> Callable[[Known, Path, Progress], Path]:
    def source(known: Known, folder: Path, progress: Progress) -> Path:
        raise WeightsError(reason)

    return source


def files(cache: Path) -> list[str]:
    return sorted(p.name for p in (cache / "models" / NAME).rglob("*") if p.is_file() and p.name != ".lock")


def test_cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PONDERA_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert weights.cache_dir() == tmp_path / ".cache" / "pondera"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert weights.cache_dir() == tmp_path / "xdg" / "pondera"
    monkeypatch.setenv("PONDERA_CACHE", "~/mine")
    assert weights.cache_dir() == tmp_path / "mine"


def test_the_hub_is_asked_first_and_the_mirror_second() -> None:
    assert list(weights.SOURCES.values()) == [from_hub, from_mirror]


def test_pull_fetches_once_and_remembers_the_hash(known: Known, origin: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    giver = Giver(origin.read_bytes())
    told: list[str] = []
    assert not models_table(cache)[0].fetched
    path = pull(NAME, progress=lambda stage, done, total: told.append(stage), cache=cache, sources={"x": giver})
    assert path.read_bytes() == origin.read_bytes()
    assert files(cache) == ["tiny.gguf", "tiny.gguf.hash.json"]
    assert list(dict.fromkeys(told)) == ["fetching", "checking"]
    assert models_table(cache)[0] == (NAME, "Tiny", 384, known.size, True, "Apache-2.0", "for tests")

    told.clear()
    assert pull(NAME, progress=lambda *step: told.append(step[0]), cache=cache, sources={"x": giver}) == path
    assert (giver.asked, told) == (1, [])

    os.utime(path, ns=(1, 1))  # touched: hashed again, and then remembered again
    assert pull(NAME, progress=lambda *step: told.append(step[0]), cache=cache, sources={"x": giver}) == path
    assert (giver.asked, set(told)) == (1, {"checking"})
    told.clear()
    pull(NAME, progress=lambda *step: told.append(step[0]), cache=cache, sources={"x": giver})
    assert not told


@pytest.mark.parametrize("marker", [b"", b"[1, 2]", b"{", b"\xff\xfe", b'{"size": 3}'])
def test_a_spoilt_marker_only_costs_time(known: Known, origin: Path, cache: Path, marker: bytes) -> None:
    path = pull(NAME, cache=cache, sources={"x": Giver(origin.read_bytes())})
    path.with_name("tiny.gguf.hash.json").write_bytes(marker)
    assert pull(NAME, cache=cache, sources={}) == path


def test_the_second_source_is_tried_when_the_first_is_closed_or_wrong(known: Known, origin: Path, cache: Path) -> None:
    right = Giver(origin.read_bytes())
    wrong = Giver(origin.read_bytes()[:-1] + b"?")
    pull(NAME, cache=cache, sources={"the hub": closed("down"), "an old mirror": wrong, "a mirror": right})
    assert (wrong.asked, right.asked) == (1, 1)
    assert files(cache) == ["tiny.gguf", "tiny.gguf.hash.json"]


def test_when_all_fail_one_error_names_all_ways_and_the_mend(known: Known, cache: Path) -> None:
    sources: dict[str, weights.Source] = {"the hub": closed("it is down"), "the mirror": Giver(b"GGUF but another")}
    with pytest.raises(WeightsError) as caught:
        pull(NAME, cache=cache, sources=sources)
    for part in (NAME, "the hub (it is down)", "the mirror (it gave a file with a wrong hash", "path of a GGUF file"):
        assert part in str(caught.value)
    assert files(cache) == []
    assert not models_table(cache)[0].fetched


def test_a_wrong_file_in_the_cache_is_moved_aside_not_deleted(known: Known, origin: Path, cache: Path) -> None:
    path = pull(NAME, cache=cache, sources={"x": Giver(origin.read_bytes())})
    for spoilt, aside in ((b"short", "tiny.gguf.bad"), (b"?" * known.size, "tiny.gguf.bad1")):
        path.write_bytes(spoilt)
        with pytest.raises(WeightsError, match=r"Pull the model again.*moved to"):
            pull(NAME, cache=cache, sources={})
        assert path.with_name(aside).read_bytes() == spoilt
        assert not path.exists()
        pull(NAME, cache=cache, sources={"x": Giver(origin.read_bytes())})
    assert path.with_name("tiny.gguf.bad").read_bytes() == b"short"


def test_verify(known: Known, origin: Path, tmp_path: Path) -> None:
    verify(origin, known)
    (tmp_path / "short.gguf").write_bytes(b"GGUF")
    with pytest.raises(WeightsError, match="has 4 bytes, not"):
        verify(tmp_path / "short.gguf", known)
    origin.write_bytes(b"?" * known.size)
    with pytest.raises(WeightsError, match="another sha256"):
        verify(origin, known)
    with pytest.raises(WeightsError, match="cannot be read"):
        verify(tmp_path / "absent.gguf", known)


@pytest.mark.parametrize("cut", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full"), OSError("10 requested and 3 written")])
def test_a_cut_pull_leaves_what_it_had_and_goes_on(known: Known, origin: Path, cache: Path, cut: BaseException) -> None:
    def cuts(known: Known, folder: Path, progress: Progress) -> Path:
        part = folder / "half.part"
        if not part.exists():
            part.write_bytes(origin.read_bytes()[:1000])
            raise cut
        part.write_bytes(part.read_bytes() + origin.read_bytes()[1000:])
        return part

    expected = WeightsError if isinstance(cut, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        pull(NAME, cache=cache, sources={"x": cuts})
    if isinstance(cut, OSError):
        assert "is full" in str(caught.value)
    assert files(cache) == ["half.part"]
    assert pull(NAME, cache=cache, sources={"x": cuts}).read_bytes() == origin.read_bytes()
    assert files(cache) == ["tiny.gguf", "tiny.gguf.hash.json"]


Usage = namedtuple("Usage", "total used free")


def test_too_little_room_is_said_before_anything_is_fetched(
    known: Known, origin: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    giver = Giver(origin.read_bytes())
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**9, 10**9, 2 * known.size))
    with pytest.raises(WeightsError, match=r"too little room.*PONDERA_CACHE"):
        pull(NAME, cache=cache, sources={"x": giver})
    assert giver.asked == 0
    had = cache / "models" / NAME / "incoming" / "0"
    had.mkdir(parents=True)
    (had / "piece").write_bytes(b"x" * known.size)  # what an earlier try left counts
    pull(NAME, cache=cache, sources={"x": giver})
    assert giver.asked == 1


def test_too_little_room_for_the_conversion(known: Known, origin: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**9, 10**9, 300))
    with pytest.raises(WeightsError, match="too little room"):
        ready(origin, cache=cache)


def test_a_cache_that_cannot_be_made(known: Known, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WeightsError, match="set PONDERA_CACHE"):
        pull(NAME, cache=tmp_path / "file" / "cache", sources={})


def test_threads_that_pull_at_once_fetch_once(known: Known, origin: Path, cache: Path) -> None:
    giver = Giver(origin.read_bytes())
    found: list[Path] = []

    def one() -> None:
        found.append(pull(NAME, cache=cache, sources={"x": giver}))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert giver.asked == 1


def test_another_process_that_pulls_is_waited_for(known: Known, origin: Path, cache: Path) -> None:
    """Another process holds the lock, puts the file there and lets go: we say that we wait, and then fetch nothing."""
    folder = cache / "models" / NAME
    folder.mkdir(parents=True)
    program = f"""
        import shutil, sys
        from filelock import FileLock
        with FileLock({str(folder / ".lock")!r}):
            print("held", flush=True)
            sys.stdin.readline()
            shutil.copyfile({str(origin)!r}, {str(folder / "tiny.gguf")!r})
    """
    other = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdin is not None
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    told: list[str] = []

    def progress(stage: str, done: int, total: int) -> None:
        told.append(stage)
        if stage == "waiting":
            other.stdin.write(b"go\n")  # type: ignore[union-attr]
            other.stdin.flush()  # type: ignore[union-attr]

    giver = Giver(origin.read_bytes())
    assert pull(NAME, progress=progress, cache=cache, sources={"x": giver}).exists()
    assert told[0] == "waiting"
    assert giver.asked == 0
    other.communicate()
    assert other.returncode == 0


def test_the_lock_is_let_go_when_a_pull_fails(known: Known, cache: Path) -> None:
    with pytest.raises(WeightsError):
        pull(NAME, cache=cache, sources={"x": closed("down")})
    with FileLock(cache / "models" / NAME / ".lock", timeout=0):
        pass


def test_unknown_names_get_the_nearest(known: Known, cache: Path) -> None:
    for ask in (lambda name: pull(name, cache=cache), lambda name: ready(name, cache=cache)):
        with pytest.raises(BadInput, match=r"did you mean 'tiny-1m'.*pondera models"):
            ask("Tiny-1b")
        with pytest.raises(BadInput, match="pondera models"):
            ask("zzz")
    for odd in ("", "  ", "a\0b", "x" * 5000):
        with pytest.raises(BadInput):
            ready(odd, cache=cache)


def test_ready_by_name_pulls_and_converts_once(known: Known, origin: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "SOURCES", {"x": Giver(origin.read_bytes())})
    told: list[str] = []
    first = ready(NAME, progress=lambda *step: told.append(step[0]), cache=cache)
    assert first.name == NAME
    assert first.folder is None
    assert first.cache == cache / "engine" / known.sha256
    assert first.gguf == first.cache / "model-q8_0.gguf"
    assert list(dict.fromkeys(told)) == ["fetching", "checking", "reading", "converting"]
    assert {t.tensor_type for t in gguf_convert.read(first.gguf).tensors} == {Type.Q8_0, Type.F32}
    assert sorted(p.name for p in first.cache.iterdir() if p.name != ".lock") == ["checked.json", "model-q8_0.gguf"]

    told.clear()
    assert ready(NAME, progress=lambda *step: told.append(step[0]), cache=cache) == first
    assert told == []

    first.gguf.write_bytes(b"cut")
    assert ready(NAME, progress=lambda *step: told.append(step[0]), cache=cache) == first
    assert set(told) == {"reading", "converting"}
    assert first.gguf.stat().st_size > 3


def test_a_cut_conversion_leaves_nothing(origin: Path, cache: Path) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "converting":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ready(origin, progress=interrupt, cache=cache)
    assert [p for p in (cache / "engine").rglob("*") if p.is_file() and p.name != ".lock"] == []
    assert ready(origin, cache=cache).gguf is not None


def test_ready_by_path(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    tiny_gguf(mine / "my-model.gguf", {"a.weight": Type.Q8_0})
    before = sorted(mine.iterdir())
    told: list[str] = []
    model = ready(mine / "my-model.gguf", progress=lambda *step: told.append(step[0]), cache=cache)
    assert (model.name, model.gguf, model.folder) == ("my-model", mine / "my-model.gguf", None)
    assert set(told) == {"checking", "reading"}
    assert sorted(mine.iterdir()) == before  # nothing is written beside a user's file
    told.clear()
    monkeypatch.chdir(mine)
    assert ready("my-model.gguf", progress=lambda *step: told.append(step[0]), cache=cache) == model
    assert told == []
    shutil.copy(mine / "my-model.gguf", tmp_path / "copy.gguf")
    assert ready(tmp_path / "copy.gguf", cache=cache).cache == model.cache  # keyed by content
    tiny_gguf(mine / "my-model.gguf", {"a.weight": Type.Q8_0}, seed=1)
    os.utime(mine / "my-model.gguf", ns=(1, 1))
    assert ready("my-model.gguf", cache=cache).cache != model.cache


def test_paths_that_cannot_be_used(tmp_path: Path, origin: Path, cache: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        ready("absent.gguf", cache=cache)
    with pytest.raises(WeightsError, match="does not exist"):
        ready(tmp_path / "absent", cache=cache)
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(WeightsError, match="not a GGUF file"):
        ready(tmp_path / "text.gguf", cache=cache)
    (tmp_path / "cut.gguf").write_bytes(origin.read_bytes()[:-500])
    for _ in range(2):
        with pytest.raises(WeightsError, match="cut off or damaged"):
            ready(tmp_path / "cut.gguf", cache=cache)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.gguf")
        with pytest.raises(WeightsError, match="is not a file"):
            ready(tmp_path / "pipe.gguf", cache=cache)


def test_ready_by_folder(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "exported"
    folder.mkdir()
    with pytest.raises(WeightsError, match=r"openvino_model\.xml is missing"):
        ready(folder, cache=cache)
    (folder / "openvino_model.xml").write_text("<net/>")
    with pytest.raises(WeightsError, match=r"openvino_model\.bin is missing"):
        ready(folder, cache=cache)
    (folder / "openvino_model.bin").write_bytes(b"weights")
    model = ready(folder, cache=cache)
    assert (model.name, model.gguf, model.folder) == ("exported", None, folder)
    assert model.cache.is_dir()
    assert ready(f"{folder}/", cache=cache) == model
    (folder / "openvino_model.bin").write_bytes(b"other weights")
    assert ready(folder, cache=cache).cache != model.cache


def test_a_remembered_hash_holds_for_the_file_as_it_was_before_reading(origin: Path, cache: Path) -> None:
    """A file that changes while it is hashed is not remembered by the hash of the mixture."""

    def change(stage: str, done: int, total: int) -> None:
        if done == total:  # the first report: the whole file has been read as it was
            with origin.open("ab") as file:
                file.write(b"more")

    marker = cache / "m.json"
    hashes.hash_of(origin, marker, change)
    assert json.loads(marker.read_text())["size"] < origin.stat().st_size
    assert hashes.remembered(origin, marker) is None


def test_a_cache_that_is_read_only_still_serves(known: Known, origin: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources: Mapping[str, Giver] = {"x": Giver(origin.read_bytes())}
    monkeypatch.setattr(weights, "SOURCES", sources)
    model = ready(NAME, cache=cache)

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(weights, "FileLock", refuse)
    monkeypatch.setattr(Path, "write_text", refuse)
    assert ready(NAME, cache=cache) == model
