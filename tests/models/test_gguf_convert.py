"""GGUF files made here, a few kilobytes each: what is read, what is refused, and what conversion keeps."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from pondera.errors import WeightsError
from pondera.models import gguf_convert
from pondera.models.fetch import silent

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
TOKENS = ["<unk>", "ä", "Ġthe", "日本", ""]


def tiny_gguf(path: Path, types: dict[str, Type], *, seed: int = 0, split: int = 0, align: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Write a model of matrices (6 x 64) of the given types, a vector and metadata; answers the values that were quantised."""
    chance = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    if align:
        writer.add_custom_alignment(align)
    writer.add_string("tokenizer.chat_template", TEMPLATE)
    writer.add_array("tokenizer.ggml.tokens", TOKENS)
    writer.add_array("tokenizer.ggml.scores", [0.5, -1.25, 0.0, 3.0, 1e-7])
    writer.add_array("tokenizer.ggml.token_type", [1, 2, 3, 1, 6])
    writer.add_uint32("llama.context_length", 8192)
    writer.add_float32("llama.rope.freq_base", 1e6)
    writer.add_bool("tokenizer.ggml.add_bos_token", False)
    writer.add_uint64("general.big", 2**63)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
    if split:
        writer.add_uint16("split.count", split)
    values = {}
    for name, kind in types.items():
        values[name] = chance.normal(scale=0.05, size=(6, 64)).astype(np.float32)
        writer.add_tensor(name, gguf.quantize(values[name], kind), raw_dtype=kind)
    values["norm.weight"] = chance.normal(size=7).astype(np.float32)
    writer.add_tensor("norm.weight", values["norm.weight"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


def metadata(reader: Any) -> dict[str, Any]:
    return {
        name: (field.types, field.contents())
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.") and name not in ("general.file_type", "general.quantization_version")
    }


@pytest.mark.parametrize("align", [0, 256])
def test_conversion_keeps_values_and_metadata(tmp_path: Path, align: int) -> None:
    source, target = tmp_path / "a.gguf", tmp_path / "b.gguf"
    types = {"a.weight": Type.Q5_0, "b.weight": Type.Q8_0, "c.weight": Type.F16, "d.weight": Type.Q5_1, "e.weight": Type.BF16}
    tiny_gguf(source, types, align=align)
    before = gguf_convert.read(source)
    assert gguf_convert.needs_conversion(before)
    told: list[tuple[str, int, int]] = []
    gguf_convert.convert(before, target, lambda *step: told.append(step))

    after = gguf_convert.read(target)
    assert not gguf_convert.needs_conversion(after)
    assert metadata(after) == metadata(before)
    assert after.get_field("tokenizer.chat_template").contents() == TEMPLATE
    assert after.get_field("tokenizer.ggml.tokens").contents() == TOKENS
    assert after.get_field("general.file_type").contents() == gguf.LlamaFileType.MOSTLY_Q8_0
    assert [t.name for t in after.tensors] == [t.name for t in before.tensors]
    for old, new in zip(before.tensors, after.tensors, strict=True):
        assert new.shape.tolist() == old.shape.tolist()
        was, now = gguf.dequantize(old.data, old.tensor_type), gguf.dequantize(new.data, new.tensor_type)
        if old.tensor_type in (Type.F32, Type.F16, Type.Q8_0):
            assert new.tensor_type == old.tensor_type
            np.testing.assert_array_equal(now, was)
        else:
            assert new.tensor_type == Type.Q8_0
            blocks = was.reshape(-1, 32)
            step = np.abs(blocks).max(axis=1, keepdims=True) / 127
            # half a step of rounding, and the step itself is kept as a half-precision float: up to 127 steps off by 2^-11
            assert np.all(np.abs(now.reshape(-1, 32) - blocks) <= step * (0.5 + 127 / 2048) + 1e-6)
            assert not np.array_equal(now, was)
    assert told[-1] == ("converting", told[-1][2], told[-1][2])
    assert len(told) == len(before.tensors)
    tensors = sum(t.n_bytes for t in after.tensors)
    assert gguf_convert.converted_size(before) == tensors


def test_rows_taken_a_few_at_a_time_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_gguf(tmp_path / "a.gguf", {"a.weight": Type.Q5_0})
    gguf_convert.convert(gguf_convert.read(tmp_path / "a.gguf"), tmp_path / "whole.gguf", silent)
    monkeypatch.setattr(gguf_convert, "ELEMENTS", 130)  # two rows of 64
    gguf_convert.convert(gguf_convert.read(tmp_path / "a.gguf"), tmp_path / "rows.gguf", silent)
    assert (tmp_path / "rows.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_matrix_whose_rows_are_no_whole_blocks_becomes_float(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    odd = np.arange(24, dtype=np.float32).reshape(2, 12)
    writer.add_tensor("odd.weight", gguf.quantize(odd, Type.BF16), raw_dtype=Type.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    gguf_convert.convert(gguf_convert.read(tmp_path / "a.gguf"), tmp_path / "b.gguf", silent)
    (tensor,) = gguf_convert.read(tmp_path / "b.gguf").tensors
    assert tensor.tensor_type == Type.F32
    np.testing.assert_array_equal(tensor.data, odd)


def test_a_file_of_readable_types_needs_nothing(tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "a.gguf", {"a.weight": Type.Q8_0, "b.weight": Type.Q4_1, "c.weight": Type.Q4_0})
    assert not gguf_convert.needs_conversion(gguf_convert.read(tmp_path / "a.gguf"))


def test_types_that_cannot_be_decoded_are_named_before_anything_is_written(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_tensor("counts", np.arange(8, dtype=np.int32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(WeightsError, match="type I32"):
        gguf_convert.convert(gguf_convert.read(tmp_path / "a.gguf"), tmp_path / "b.gguf", silent)
    assert not (tmp_path / "b.gguf").exists()


def test_wherever_a_file_is_cut_it_is_refused(tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "a.gguf", {"a.weight": Type.Q5_0})
    whole = (tmp_path / "a.gguf").read_bytes()
    end = gguf_convert.read(tmp_path / "a.gguf").tensors[-1]
    for length in [*range(4, len(whole), 97), end.data_offset + end.n_bytes - 1]:
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        with pytest.raises(WeightsError, match="cut off or damaged"):
            gguf_convert.read(tmp_path / "cut.gguf")


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04 a zip", b"\x00" * 64])
def test_what_is_not_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(WeightsError, match="not a GGUF file"):
        gguf_convert.read(tmp_path / "a.gguf")


def test_noise_behind_the_magic_is_refused(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    for length in (0, 4, 20, 500):
        (tmp_path / "a.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + chance.bytes(length))
        with pytest.raises(WeightsError, match="cut off or damaged"):
            gguf_convert.read(tmp_path / "a.gguf")


def test_one_part_of_several_and_a_file_without_a_model_are_refused(tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "a.gguf", {"a.weight": Type.Q8_0}, split=3)
    with pytest.raises(WeightsError, match="one of 3 parts"):
        gguf_convert.read(tmp_path / "a.gguf")
    writer = gguf.GGUFWriter(tmp_path / "b.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(WeightsError, match="holds no model"):
        gguf_convert.read(tmp_path / "b.gguf")
