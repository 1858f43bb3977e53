"""The committed stubs are those of the protos, and the protos keep to the rules of the wire."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

ROOT = Path(__file__).parents[2]
COMPILER = "1.81.1"
Spoil = Callable[[descriptor_pb2.FileDescriptorProto], object]


@pytest.fixture(scope="module")
def lint() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lint_protos", ROOT / "deploy" / "lint_protos.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def has_compiler() -> bool:
    try:
        return version("grpcio-tools") == COMPILER
    except PackageNotFoundError:
        return False


@pytest.mark.skipif(not has_compiler(), reason=f"needs grpcio-tools {COMPILER}")
def test_the_stubs_are_those_of_the_protos() -> None:
    done = subprocess.run(
        ["bash", "deploy/protoc.sh", "--check"],
        cwd=ROOT,
        env={**os.environ, "VENV": sys.prefix},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_proto_has_its_stubs() -> None:
    protos = {path.stem for path in (ROOT / "protos" / "shared" / "pb").glob("*.proto")}
    for suffix in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py"):
        found = (ROOT / "shared" / "pb").glob(f"*{suffix}")
        assert {path.name.removesuffix(suffix) for path in found} == protos


def test_the_compiler_is_pinned_where_it_is_installed_from() -> None:
    assert f'"grpcio-tools=={COMPILER}"' in (ROOT / "pyproject.toml").read_text()
    assert f"grpcio-tools=={COMPILER}" in (ROOT / "requirements.lock").read_text().splitlines()


def test_our_protos_keep_to_the_rules(lint: ModuleType) -> None:
    stubs = sorted(path.stem for path in (ROOT / "shared" / "pb").glob("*_pb2.py"))
    files = [import_module(f"shared.pb.{stub}").DESCRIPTOR for stub in stubs]
    assert [line for file in files for line in lint.findings(file)] == []
    assert list(lint.reused(files)) == []


def good_file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="shared/pb/good.proto", package="echofed.v1", syntax="proto3"
    )
    for name in ("AskRequest", "AskReply", "TellRequest", "TellReply"):
        file.message_type.add(name=name).field.add(name="depth_mm", number=1, type=5, label=1)
    kind = file.enum_type.add(name="ProbeKind")
    kind.value.add(name="PROBE_KIND_UNSPECIFIED", number=0)
    kind.value.add(name="PROBE_KIND_LINEAR", number=1)
    service = file.service.add(name="GoodService")
    for name in ("Ask", "Tell"):
        ends = (f".echofed.v1.{name}Request", f".echofed.v1.{name}Reply")
        service.method.add(name=name, input_type=ends[0], output_type=ends[1])
    return file


def linted(lint: ModuleType, file: descriptor_pb2.FileDescriptorProto) -> list[str]:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    built = pool.FindFileByName(file.name)
    return [*lint.findings(built), *lint.reused([built])]


def test_a_good_file_passes(lint: ModuleType) -> None:
    assert linted(lint, good_file()) == []


def reuse_the_request(file: descriptor_pb2.FileDescriptorProto) -> None:
    file.service[0].method[1].input_type = ".echofed.v1.AskRequest"


def second_service(file: descriptor_pb2.FileDescriptorProto) -> None:
    file.service.add(name="OtherService")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: setattr(file, "name", "pb/good.proto"), "is not in shared/pb"),
        (lambda file: setattr(file.message_type[0].field[0], "name", "depthMm"), "like_this"),
        (lambda file: setattr(file.enum_type[0].value[0], "name", "PROBE_KIND_NONE"), "= 0"),
        (lambda file: setattr(file.enum_type[0].value[1], "name", "LINEAR"), "begins with"),
        (lambda file: setattr(file.service[0], "name", "Good"), "LikeThisService"),
        (lambda file: file.message_type.add(name="not_camel"), "LikeThis"),
        (second_service, "more than one service"),
        (reuse_the_request, "is request or reply 2 times"),
    ],
)
def test_a_broken_rule_is_said(lint: ModuleType, spoil: Spoil, said: str) -> None:
    file = good_file()
    spoil(file)
    assert any(said in line for line in linted(lint, file))


def test_another_package_is_said(lint: ModuleType) -> None:
    file = descriptor_pb2.FileDescriptorProto(name="shared/pb/x.proto", package="echofed")
    assert linted(lint, file) == ["shared/pb/x.proto: package is 'echofed', not 'echofed.v1'"]
