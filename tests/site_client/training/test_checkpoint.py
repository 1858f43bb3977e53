import errno
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from shared.errors import Code, EchoFedError
from site_client.training.checkpoint import CHECKPOINT_FILE, Checkpoint, Course, Validation


def trained_once() -> tuple[nn.Module, torch.optim.Adam]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    model = model.to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(model.parameters(), fused=True)
    model(torch.randn(2, 1, 8, 8)).square().sum().backward()
    adam.step()
    return model, adam


def test_model_moments_and_course_come_back_bit_for_bit(tmp_path: Path) -> None:
    model, adam = trained_once()
    course = Course().advance(Validation(0.5, 1 / 3), seconds=1.0)
    Checkpoint(tmp_path).save(model, adam, course)
    other, fresh = trained_once()
    nn.init.zeros_(other[0].weight)  # type: ignore[index,arg-type]
    assert Checkpoint(tmp_path).restore(other, fresh) == course
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        for name, value in adam.state[ours].items():
            assert torch.equal(fresh.state[theirs][name], value)
            assert fresh.state[theirs][name].stride() == value.stride()


def test_best_weights_outlive_a_kill(tmp_path: Path) -> None:
    model, adam = trained_once()
    best = {name: value.clone() for name, value in model.state_dict().items()}
    course = Course().advance(Validation(0.9, 0.1), seconds=1.0)
    first = Checkpoint(tmp_path)
    first.save(model, adam, course)
    nn.init.zeros_(model[0].weight)  # type: ignore[index,arg-type]
    first.save(model, adam, course.advance(Validation(0.2, 2.0), seconds=1.0))
    later = Checkpoint(tmp_path)
    later.restore(model, adam)
    later.restore_best(model)
    assert torch.equal(model.state_dict()["0.weight"], best["0.weight"])


def test_run_without_a_checkpoint_starts_at_the_beginning(tmp_path: Path) -> None:
    assert Checkpoint(tmp_path / "none").restore(*trained_once()) == Course()


def test_full_disk_keeps_the_epoch_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, adam = trained_once()
    course = Course().advance(Validation(0.5, 1.0), seconds=1.0)
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save(model, adam, course)

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(EchoFedError) as refusal:
        checkpoint.save(model, adam, course.advance(Validation(0.6, 1.0), seconds=1.0))
    assert refusal.value.code == Code.DISK_FULL
    assert Checkpoint(tmp_path).restore(model, adam) == course


def test_damaged_checkpoint_is_an_error(tmp_path: Path) -> None:
    model, adam = trained_once()
    Checkpoint(tmp_path).save(model, adam, Course().advance(Validation(0.5, 1.0), seconds=1.0))
    path = tmp_path / CHECKPOINT_FILE
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(EchoFedError) as refusal:
        Checkpoint(tmp_path).restore(model, adam)
    assert refusal.value.code == Code.CHECKPOINT_CORRUPT
