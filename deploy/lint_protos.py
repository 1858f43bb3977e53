"""What every message and service on the wire keeps to; prints what does not, and fails then.

Read from the committed stubs, which another check holds against the protos.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

PACKAGE = "echofed.v1"
PB = Path(__file__).parents[1] / "shared" / "pb"
_CAMEL, _SNAKE = re.compile(r"([A-Z][a-z0-9]+)+"), re.compile(r"[a-z]+[a-z0-9]*(_[a-z0-9]+)*")


def findings(file: Any) -> Iterator[str]:
    """Say what is wrong with a file.

    Args:
        file: its FileDescriptor.
    """
    if file.package != PACKAGE:
        yield f"{file.name}: package is {file.package!r}, not {PACKAGE!r}"
    if not file.name.startswith("shared/pb/"):
        yield f"{file.name}: is not in shared/pb, so its stubs cannot be imported"
    if len(file.services_by_name) > 1:
        yield f"{file.name}: has more than one service"
    for message in file.message_types_by_name.values():
        yield from _of_message(message)
    for enum in file.enum_types_by_name.values():
        yield from _of_enum(enum)
    for service in file.services_by_name.values():
        yield from _of_service(service)


def reused(files: list[Any]) -> Iterator[str]:
    """Say which requests and replies serve more than one call, or two sides of one."""
    ends = Counter(
        end.full_name
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
        for end in (method.input_type, method.output_type)
    )
    yield from (
        f"{name}: is request or reply {count} times" for name, count in ends.items() if count > 1
    )


def _of_message(message: Any) -> Iterator[str]:
    if not _CAMEL.fullmatch(message.name):
        yield f"{message.full_name}: a message is written LikeThis"
    for field in message.fields:
        if not _SNAKE.fullmatch(field.name):
            yield f"{field.full_name}: a field is written like_this"
    for nested in message.nested_types:
        yield from _of_message(nested)
    for enum in message.enum_types:
        yield from _of_enum(enum)


def _of_enum(enum: Any) -> Iterator[str]:
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"
    if enum.values[0].name != f"{prefix}UNSPECIFIED" or enum.values[0].number != 0:
        yield f"{enum.full_name}: the first value is {prefix}UNSPECIFIED = 0"
    for value in enum.values:
        if not value.name.startswith(prefix):
            yield f"{enum.full_name}.{value.name}: a value begins with {prefix}"


def _of_service(service: Any) -> Iterator[str]:
    if not _CAMEL.fullmatch(service.name) or not service.name.endswith("Service"):
        yield f"{service.full_name}: a service is written LikeThisService"
    for method in service.methods:
        expected = (f"{method.name}Request", f"{method.name}Reply")
        if (method.input_type.name, method.output_type.name) != expected:
            yield f"{method.full_name}: takes {expected[0]} and returns {expected[1]}"


def main() -> None:
    """Lint all stubs."""
    modules = sorted(path.stem for path in PB.glob("*_pb2.py"))
    files = [import_module(f"shared.pb.{module}").DESCRIPTOR for module in modules]
    found = [*(line for file in files for line in findings(file)), *reused(files)]
    if found:
        sys.exit("\n".join(found))
    print(f"protos: {len(files)} files keep to the rules")


if __name__ == "__main__":
    main()
