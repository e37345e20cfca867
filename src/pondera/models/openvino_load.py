"""Opening a model for the embedded engine: memory is looked at first, a GGUF file's graph is converted once and kept."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from pondera.errors import ModelUnavailable, WeightsError
from pondera.models.openvino_adapter import Adapter, graft, of_model
from pondera.models.openvino_engine import Engine
from pondera.models.openvino_prefix import BLOCK
from pondera.models.openvino_words import first_line
from pondera.models.weights import Progress, Ready, alone

SEQUENCES = 128  # that share a batch at most
UNKNOWN = 1 << 30  # tokens; a model folder that does not say how long its context is


def load(ready: Ready, cache_gb: int, progress: Progress) -> Engine:
    """Open a model; the first time, the graph that a GGUF file is converted to is kept in the cache."""
    import openvino_genai as genai

    source = ready.folder or ready.gguf
    assert source is not None
    need = sum(f.stat().st_size for f in source.iterdir()) if source.is_dir() else source.stat().st_size
    if (free := _free_memory()) is not None and free < need * 1.3 + cache_gb * 2**30:
        raise ModelUnavailable(
            f"{ready.name} needs about {(need * 1.3) / 2**30 + cache_gb:.1f} GiB of memory and {free / 2**30:.1f} are free: close other "
            f"programs, use a smaller model, or give the cache less (cache_gb)."
        )
    progress("loading", 0, 1)
    scheduler = genai.SchedulerConfig()
    scheduler.enable_prefix_caching = True
    scheduler.cache_size = cache_gb
    scheduler.max_num_seqs = SEQUENCES
    try:
        with alone(ready.cache, progress):  # two processes that write the engine's cache at once fail on each other's files
            adapter = None if ready.folder else of_model(ready.cache.name, ready.cache)
            pipeline, tokenizer = _pipeline(genai, ready, scheduler, adapter)
    except MemoryError:
        raise ModelUnavailable(f"There is too little memory for {ready.name}: use a smaller model, or give the cache less (cache_gb).")
    except RuntimeError as error:
        if "alloc" in str(error):
            raise ModelUnavailable(f"There is too little memory for {ready.name}: use a smaller model, or give the cache less (cache_gb).")
        raise WeightsError(f"The engine cannot read {source} ({first_line(error)}): give a GGUF file or an OpenVINO folder that it knows.")
    if not tokenizer.chat_template:
        raise WeightsError(f"{source} holds no chat template: give an instruction-tuned model's file.")
    progress("loading", 1, 1)
    return Engine(genai, pipeline, tokenizer, _context(ready), cache_gb * 2**30 // (BLOCK * 4096), adapter.tokens if adapter else ())


def _pipeline(genai: Any, ready: Ready, scheduler: Any, adapter: Adapter | None) -> tuple[Any, Any]:
    if ready.folder:
        pipeline = genai.ContinuousBatchingPipeline(str(ready.folder), scheduler, "CPU", {"CACHE_DIR": str(ready.cache)})
        return pipeline, pipeline.get_tokenizer()
    graph = ready.cache / "openvino_model.xml"
    if not graph.exists() or _grafted(ready.cache) != (adapter.print if adapter else ""):
        _convert(genai, ready, scheduler, adapter)
    tokenizer = genai.Tokenizer(str(ready.gguf))
    pipeline = genai.ContinuousBatchingPipeline(str(ready.cache), tokenizer, scheduler, "CPU", CACHE_DIR=str(ready.cache))
    return pipeline, tokenizer


def _grafted(cache: Path) -> str:
    """Which adapter the graph in the cache has, as its print; "" for none."""
    try:
        return (cache / "adapter.print").read_text()
    except OSError:
        return ""


def _convert(genai: Any, ready: Ready, scheduler: Any, adapter: Adapter | None) -> None:
    """Write a GGUF's graph into the cache. The pipeline puts it beside the file, so the file is linked into a folder of its own."""
    ready.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ready.cache) as folder:
        link = Path(folder) / "model.gguf"
        assert ready.gguf is not None
        try:
            link.symlink_to(ready.gguf.resolve())
        except OSError:  # a file system without links
            shutil.copyfile(ready.gguf, link)
        del_me = genai.ContinuousBatchingPipeline(str(link), scheduler, "CPU", {"enable_save_ov_model": True})
        del del_me
        if adapter:
            _graft(Path(folder), adapter)
        (ready.cache / "openvino_model.xml").unlink(missing_ok=True)
        for compiled in ready.cache.glob("*.blob"):  # of the graph that was there
            with contextlib.suppress(OSError):  # another process has it open, where that matters
                compiled.unlink()
        (ready.cache / "adapter.print").write_text(adapter.print if adapter else "")
        for name in ("openvino_model.bin", "openvino_model.xml"):  # the graph last: it says that both are whole
            with contextlib.suppress(FileNotFoundError):
                os.replace(Path(folder) / name, ready.cache / name)


def _graft(folder: Path, adapter: Adapter) -> None:
    import openvino

    model = openvino.Core().read_model(folder / "openvino_model.xml")
    graft(model, adapter)
    openvino.save_model(model, folder / "grafted.xml", compress_to_fp16=False)
    del model  # it maps the file that is replaced now
    for ending in ("bin", "xml"):
        os.replace(folder / f"grafted.{ending}", folder / f"openvino_model.{ending}")


def _context(ready: Ready) -> int:
    """The tokens that the model was made for. Reading a GGUF's header takes seconds, so the number is kept."""
    kept = ready.cache / "context"
    with contextlib.suppress(OSError, ValueError):
        return int(kept.read_text())
    context = UNKNOWN
    if ready.gguf:
        from gguf import GGUFReader

        fields = GGUFReader(ready.gguf).fields
        context = int(fields[f"{fields['general.architecture'].contents()}.context_length"].contents())
    elif ready.folder:
        with contextlib.suppress(OSError, ValueError, KeyError):
            context = int(json.loads((ready.folder / "config.json").read_text())["max_position_embeddings"])
    ready.cache.mkdir(parents=True, exist_ok=True)
    kept.write_text(str(context))
    return context


def _free_memory() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None
