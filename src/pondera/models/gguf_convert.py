"""GGUF files: whether one is whole, whether the engine can read it, and its conversion to Q8_0 where it cannot.

OpenVINO's GGUF reader knows the tensor types in :data:`READABLE` only, and fails on others (Q5_0 above all, which most Q4_K_M files of
small models hold). Conversion takes every quantised matrix to Q8_0: blocks of 32 weights, each w = d * q with q a signed byte and
d = max|w| / 127, so that no weight moves by more than d / 2 (format: the `gguf` package, of llama.cpp).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from pondera.errors import WeightsError
from pondera.models.fetch import Progress

READABLE = frozenset({Type.F32, Type.F16, Type.Q4_0, Type.Q4_1, Type.Q4_K, Type.Q6_K, Type.Q8_0})
ELEMENTS = 1 << 22  # how many weights are in floating point at one time
MEND = "fetch it again, or give another file"
# Written anew with the converted file.
REPLACED = frozenset({"general.architecture", "general.file_type", "general.quantization_version"})


def read(path: Path) -> Any:
    """A `gguf.GGUFReader` over a whole, usable GGUF file. Raises WeightsError for a file that is something else, cut, or one of several.

    Takes seconds for a model with a large vocabulary: ask once per file.
    """
    require_magic(path)
    try:
        reader = gguf.GGUFReader(path)  # maps every tensor, and so fails where one would lie past the end of the file
        architecture = reader.get_field("general.architecture")
        split = reader.get_field("split.count")
        known = bool(architecture and architecture.contents())
        parts = split.contents() if split else 1
        whole = all(len(tensor.shape) and tensor.n_elements for tensor in reader.tensors)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise WeightsError(f"{path} is cut off or damaged ({type(error).__name__} while reading it): {MEND}.")
    if not known or not reader.tensors or not whole:
        raise WeightsError(f"{path} is a GGUF file but holds no model (no architecture, no tensors, or empty ones): {MEND}.")
    if parts > 1:
        raise WeightsError(f"{path} is one of {parts} parts of a model: join them with llama.cpp's `llama-gguf-split --merge` first.")
    if reader.byte_order != "I":
        raise WeightsError(f"{path} has the byte order of another kind of machine: {MEND}.")
    return reader


def require_magic(path: Path) -> None:
    """Raise WeightsError unless the file begins as GGUF files do, or if it cannot be read."""
    if not path.is_file():
        raise WeightsError(f"{path} is not a file: give a .gguf file, an OpenVINO model's folder, or the name of a known model.")
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}): check its permissions.")
    if magic != b"GGUF":
        raise WeightsError(f"{path} is not a GGUF file: give a .gguf file, an OpenVINO model's folder, or the name of a known model.")


def needs_conversion(reader: Any) -> bool:
    """Whether some tensor has a type that the engine cannot read."""
    return any(tensor.tensor_type not in READABLE for tensor in reader.tensors)


def converted_size(reader: Any) -> int:
    """Bytes of the converted tensors, to know beforehand whether there is room for them."""
    return sum(_bytes(tensor, _target(tensor)) for tensor in reader.tensors)


def convert(reader: Any, target: Path, progress: Progress) -> None:
    """Write the model to `target` with its quantised matrices as Q8_0, tensor by tensor, its metadata otherwise unchanged.

    Progress goes over bytes of the source. Raises WeightsError where a type cannot be decoded, OSError where the disk is full.
    """
    for tensor in reader.tensors:  # one row of each, so that it is known before anything is written
        _decode(tensor, slice(0, 1))
    writer = gguf.GGUFWriter(target, reader.get_field("general.architecture").contents())
    try:
        _copy_metadata(reader, writer)
        for tensor in reader.tensors:
            to = _target(tensor)
            shape = tuple(reversed(tensor.shape.tolist()))
            writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), _bytes(tensor, to), raw_dtype=to)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        done, total = 0, sum(tensor.n_bytes for tensor in reader.tensors)
        for tensor in reader.tensors:
            writer.write_tensor_data(_converted(tensor))
            done += tensor.n_bytes
            progress("converting", done, total)
        writer.flush()
    finally:
        writer.close()


def _copy_metadata(reader: Any, writer: Any) -> None:
    writer.data_alignment = int(reader.alignment)
    for field in reader.fields.values():
        if field.name in REPLACED or field.name.startswith("GGUF."):  # the reader's names for what is in the header
            continue
        if len(field.types) > 2:
            raise WeightsError(f"The file's entry {field.name} is an array of arrays, which cannot be copied: give another file.")
        value = field.contents()
        if value == []:  # the writer has no way to say it, and no entry says the same
            continue
        writer.add_key_value(field.name, value, field.types[0], field.types[-1] if len(field.types) > 1 else None)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _target(tensor: Any) -> Type:
    kind = Type(tensor.tensor_type)
    if kind in (Type.F32, Type.F16, Type.Q8_0):
        return kind
    whole_blocks = tensor.shape[0] % gguf.GGML_QUANT_SIZES[Type.Q8_0][0] == 0
    return Type.Q8_0 if len(tensor.shape) > 1 and whole_blocks else Type.F32


def _bytes(tensor: Any, as_type: Type) -> int:
    block, size = gguf.GGML_QUANT_SIZES[as_type]
    return int(tensor.n_elements) // block * size


def _converted(tensor: Any) -> np.ndarray[Any, Any]:
    to = _target(tensor)
    if to == tensor.tensor_type:
        return np.ascontiguousarray(tensor.data)
    return np.concatenate([gguf.quantize(rows, to) for rows in _rows(tensor)])


def _rows(tensor: Any) -> Iterator[np.ndarray[Any, Any]]:
    """The weights in floating point, some rows at a time."""
    count = int(tensor.n_elements) // int(tensor.shape[0])
    step = max(1, ELEMENTS // int(tensor.shape[0]))
    for start in range(0, count, step):
        yield _decode(tensor, slice(start, start + step))


def _decode(tensor: Any, rows: slice) -> np.ndarray[Any, Any]:
    data = tensor.data.reshape(-1, tensor.data.shape[-1])[rows]
    try:
        weights: np.ndarray[Any, Any] = gguf.dequantize(np.asarray(data), tensor.tensor_type)
    except NotImplementedError:
        kind = tensor.tensor_type.name
        raise WeightsError(f"Tensors of type {kind} can neither be read nor converted: give a Q4_K_M, Q8_0 or F16 file of the model.")
    return weights
