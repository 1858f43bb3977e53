from shared.pb import jobs_pb2 as _jobs_pb2
from shared.pb import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SubmitSynthesisRequest(_message.Message):
    __slots__ = ("part",)
    PART_FIELD_NUMBER: _ClassVar[int]
    part: OrderPart
    def __init__(self, part: _Optional[_Union[OrderPart, _Mapping]] = ...) -> None: ...

class SubmitSynthesisReply(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class WatchSynthesisRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class WatchSynthesisReply(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: _jobs_pb2.JobStatus
    def __init__(self, status: _Optional[_Union[_jobs_pb2.JobStatus, _Mapping]] = ...) -> None: ...

class FetchSynthesisRequest(_message.Message):
    __slots__ = ("id", "first")
    ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    id: str
    first: int
    def __init__(self, id: _Optional[str] = ..., first: _Optional[int] = ...) -> None: ...

class FetchSynthesisReply(_message.Message):
    __slots__ = ("part",)
    PART_FIELD_NUMBER: _ClassVar[int]
    part: DrawingPart
    def __init__(self, part: _Optional[_Union[DrawingPart, _Mapping]] = ...) -> None: ...

class CancelSynthesisRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class CancelSynthesisReply(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: _jobs_pb2.JobStatus
    def __init__(self, status: _Optional[_Union[_jobs_pb2.JobStatus, _Mapping]] = ...) -> None: ...

class Order(_message.Message):
    __slots__ = ("alias", "view", "structures", "variation", "seed", "solver", "steps", "guidance")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    STRUCTURES_FIELD_NUMBER: _ClassVar[int]
    VARIATION_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SOLVER_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    alias: str
    view: str
    structures: _containers.RepeatedScalarFieldContainer[str]
    variation: Variation
    seed: int
    solver: str
    steps: int
    guidance: float
    def __init__(self, alias: _Optional[str] = ..., view: _Optional[str] = ..., structures: _Optional[_Iterable[str]] = ..., variation: _Optional[_Union[Variation, _Mapping]] = ..., seed: _Optional[int] = ..., solver: _Optional[str] = ..., steps: _Optional[int] = ..., guidance: _Optional[float] = ...) -> None: ...

class Variation(_message.Message):
    __slots__ = ("num_images", "seed")
    NUM_IMAGES_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    num_images: int
    seed: int
    def __init__(self, num_images: _Optional[int] = ..., seed: _Optional[int] = ...) -> None: ...

class OrderPart(_message.Message):
    __slots__ = ("order", "shape", "dtype", "labels")
    ORDER_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    order: Order
    shape: _containers.RepeatedScalarFieldContainer[int]
    dtype: str
    labels: _tensor_pb2.Chunk
    def __init__(self, order: _Optional[_Union[Order, _Mapping]] = ..., shape: _Optional[_Iterable[int]] = ..., dtype: _Optional[str] = ..., labels: _Optional[_Union[_tensor_pb2.Chunk, _Mapping]] = ...) -> None: ...

class DrawingPart(_message.Message):
    __slots__ = ("model", "drawing", "labels", "pixels")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DRAWING_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    model: _jobs_pb2.ModelName
    drawing: Drawing
    labels: _tensor_pb2.Chunk
    pixels: _tensor_pb2.Chunk
    def __init__(self, model: _Optional[_Union[_jobs_pb2.ModelName, _Mapping]] = ..., drawing: _Optional[_Union[Drawing, _Mapping]] = ..., labels: _Optional[_Union[_tensor_pb2.Chunk, _Mapping]] = ..., pixels: _Optional[_Union[_tensor_pb2.Chunk, _Mapping]] = ...) -> None: ...

class Drawing(_message.Message):
    __slots__ = ("place", "seed", "map_sha256", "similarity", "is_released", "shape", "structures")
    PLACE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    MAP_SHA256_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    IS_RELEASED_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    STRUCTURES_FIELD_NUMBER: _ClassVar[int]
    place: int
    seed: int
    map_sha256: str
    similarity: float
    is_released: bool
    shape: _containers.RepeatedScalarFieldContainer[int]
    structures: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, place: _Optional[int] = ..., seed: _Optional[int] = ..., map_sha256: _Optional[str] = ..., similarity: _Optional[float] = ..., is_released: _Optional[bool] = ..., shape: _Optional[_Iterable[int]] = ..., structures: _Optional[_Iterable[str]] = ...) -> None: ...
