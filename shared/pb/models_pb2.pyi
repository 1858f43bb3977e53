from shared.pb import tensor_pb2 as _tensor_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FetchRequest(_message.Message):
    __slots__ = ("alias",)
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    alias: str
    def __init__(self, alias: _Optional[str] = ...) -> None: ...

class FetchReply(_message.Message):
    __slots__ = ("card", "weights", "signature")
    CARD_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    card: bytes
    weights: _tensor_pb2.Chunk
    signature: bytes
    def __init__(self, card: _Optional[bytes] = ..., weights: _Optional[_Union[_tensor_pb2.Chunk, _Mapping]] = ..., signature: _Optional[bytes] = ...) -> None: ...
