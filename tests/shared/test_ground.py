"""Laws of the ground floor: shapes, tables, settings, seeds and atomic files."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from shared.errors import Code, EchoFedError
from shared.files import (
    arrays_from_bytes,
    arrays_to_bytes,
    load_arrays,
    read_json,
    save_arrays,
    write_bytes,
    write_json,
)
from shared.registry import Registry
from shared.seeding import numpy_generator
from shared.settings import Settings, build_settings, hash_settings, load_settings
from shared.shapes import expect


class Inner(Settings):
    rate: float = 0.5


class Outer(Settings):
    name: str
    inner: Inner = Inner()


def test_expect_returns_sizes_and_names_the_axis_that_is_wrong() -> None:
    assert expect(np.zeros((2, 3)), "N D") == {"N": 2, "D": 3}
    with pytest.raises(EchoFedError, match="axis D of"):
        expect(np.zeros((2, 3)), "N D", D=4)
    with pytest.raises(EchoFedError) as caught:
        expect(np.zeros(3), "N D")
    assert caught.value.code is Code.SHAPE_MISMATCH


def test_a_table_loads_on_use_and_suggests_the_nearest_name() -> None:
    table: Registry[object] = Registry("thing", {"ordered": "collections:OrderedDict"})
    assert table["ordered"] is __import__("collections").OrderedDict
    with pytest.raises(EchoFedError) as caught:
        table["orderd"]
    assert caught.value.code is Code.NAME_UNKNOWN
    assert "ordered" in caught.value.hint


def test_settings_take_overrides_and_refuse_unknown_keys_with_their_path(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("name: north\n")
    assert load_settings(Outer, path, ["inner.rate=0.25"]).inner.rate == 0.25
    with pytest.raises(EchoFedError, match=r"inner\.rat'") as caught:
        load_settings(Outer, path, ["inner.rat=1"])
    assert caught.value.code is Code.CONFIG_UNKNOWN_KEY
    assert "rate" in caught.value.hint
    with pytest.raises(EchoFedError) as caught:
        load_settings(Outer, path, ["inner.rate=many"])
    assert caught.value.code is Code.CONFIG_INVALID
    with pytest.raises(EchoFedError) as caught:
        load_settings(Outer, tmp_path / "none.yaml")
    assert caught.value.code is Code.CONFIG_MISSING


def test_a_part_of_the_settings_may_come_from_a_file(tmp_path: Path) -> None:
    path, part = tmp_path / "a.yaml", tmp_path / "part.yaml"
    path.write_text("name: a\ninner: {rate: 0.75}\n")
    part.write_text("rate: 0.25\n")
    assert load_settings(Outer, path, [f"inner=@{part}"]).inner.rate == 0.25
    assert load_settings(Outer, path, [f"inner=@{part}", "inner.rate=0.1"]).inner.rate == 0.1
    with pytest.raises(EchoFedError) as refused:
        load_settings(Outer, path, [f"inner=@{tmp_path / 'none.yaml'}"])
    assert refused.value.code is Code.CONFIG_MISSING


def test_equal_settings_have_equal_hashes_and_others_do_not() -> None:
    one = build_settings(Outer, {"name": "a"})
    same = build_settings(Outer, {"name": "a", "inner": {"rate": 0.5}})
    assert hash_settings(one) == hash_settings(same)
    assert hash_settings(one) != hash_settings(build_settings(Outer, {"name": "b"}))


def test_streams_of_one_seed_differ_by_name_and_repeat() -> None:
    first = numpy_generator(1, "a").random(3)
    assert (first == numpy_generator(1, "a").random(3)).all()
    assert (first != numpy_generator(1, "b").random(3)).any()


def test_arrays_read_back_equal_with_their_metadata(tmp_path: Path) -> None:
    arrays = {"x": np.arange(6, dtype=np.int16).reshape(2, 3)}
    save_arrays(tmp_path / "x.safetensors", arrays, {"card": "{}"})
    back, metadata = load_arrays(tmp_path / "x.safetensors")
    assert (back["x"] == arrays["x"]).all()
    assert back["x"].dtype == np.int16
    assert metadata == {"card": "{}"}
    with pytest.raises(EchoFedError) as caught:
        arrays_from_bytes(arrays_to_bytes(arrays, {})[:-3])
    assert caught.value.code is Code.CHECKPOINT_CORRUPT


def test_a_full_disk_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"a": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EchoFedError) as caught:
        write_json(path, {"a": 2})
    assert caught.value.code is Code.DISK_FULL
    assert read_json(path) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_half_a_json_file_is_corrupt(tmp_path: Path) -> None:
    write_bytes(tmp_path / "card.json", b'{"a": ')
    with pytest.raises(EchoFedError) as caught:
        read_json(tmp_path / "card.json")
    assert caught.value.code is Code.CHECKPOINT_CORRUPT
