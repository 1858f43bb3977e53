from shared.pb import jobs_pb2 as _jobs_pb2
from shared.pb import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SegmentRequest(_message.Message):
    __slots__ = ("part",)
    PART_FIELD_NUMBER: _ClassVar[int]
    part: ClipPart
    def __init__(self, part: _Optional[_Union[ClipPart, _Mapping]] = ...) -> None: ...

class SegmentReply(_message.Message):
    __slots__ = ("part",)
    PART_FIELD_NUMBER: _ClassVar[int]
    part: AnswerPart
    def __init__(self, part: _Optional[_Union[AnswerPart, _Mapping]] = ...) -> None: ...

class FollowRequest(_message.Message):
    __slots__ = ("question", "frame")
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    question: Question
    frame: _tensor_pb2.Tensor
    def __init__(self, question: _Optional[_Union[Question, _Mapping]] = ..., frame: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class FollowReply(_message.Message):
    __slots__ = ("part",)
    PART_FIELD_NUMBER: _ClassVar[int]
    part: AnswerPart
    def __init__(self, part: _Optional[_Union[AnswerPart, _Mapping]] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("part",)
    PART_FIELD_NUMBER: _ClassVar[int]
    part: ClipPart
    def __init__(self, part: _Optional[_Union[ClipPart, _Mapping]] = ...) -> None: ...

class SubmitReply(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class WatchReply(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: _jobs_pb2.JobStatus
    def __init__(self, status: _Optional[_Union[_jobs_pb2.JobStatus, _Mapping]] = ...) -> None: ...

class ResultRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ResultReply(_message.Message):
    __slots__ = ("part",)
    PART_FIELD_NUMBER: _ClassVar[int]
    part: AnswerPart
    def __init__(self, part: _Optional[_Union[AnswerPart, _Mapping]] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class CancelReply(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: _jobs_pb2.JobStatus
    def __init__(self, status: _Optional[_Union[_jobs_pb2.JobStatus, _Mapping]] = ...) -> None: ...

class Question(_message.Message):
    __slots__ = ("alias", "view", "mm_per_pixel", "frame_time_ms", "wants_masks", "wants_contours", "num_looks")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    MM_PER_PIXEL_FIELD_NUMBER: _ClassVar[int]
    FRAME_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    WANTS_MASKS_FIELD_NUMBER: _ClassVar[int]
    WANTS_CONTOURS_FIELD_NUMBER: _ClassVar[int]
    NUM_LOOKS_FIELD_NUMBER: _ClassVar[int]
    alias: str
    view: str
    mm_per_pixel: Spacing
    frame_time_ms: float
    wants_masks: bool
    wants_contours: bool
    num_looks: int
    def __init__(self, alias: _Optional[str] = ..., view: _Optional[str] = ..., mm_per_pixel: _Optional[_Union[Spacing, _Mapping]] = ..., frame_time_ms: _Optional[float] = ..., wants_masks: _Optional[bool] = ..., wants_contours: _Optional[bool] = ..., num_looks: _Optional[int] = ...) -> None: ...

class Spacing(_message.Message):
    __slots__ = ("rows", "columns")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    rows: float
    columns: float
    def __init__(self, rows: _Optional[float] = ..., columns: _Optional[float] = ...) -> None: ...

class ClipPart(_message.Message):
    __slots__ = ("question", "shape", "dtype", "pixels")
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    question: Question
    shape: _containers.RepeatedScalarFieldContainer[int]
    dtype: str
    pixels: _tensor_pb2.Chunk
    def __init__(self, question: _Optional[_Union[Question, _Mapping]] = ..., shape: _Optional[_Iterable[int]] = ..., dtype: _Optional[str] = ..., pixels: _Optional[_Union[_tensor_pb2.Chunk, _Mapping]] = ...) -> None: ...

class AnswerPart(_message.Message):
    __slots__ = ("model", "frame", "mask", "measurements", "unmeasured")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    MEASUREMENTS_FIELD_NUMBER: _ClassVar[int]
    UNMEASURED_FIELD_NUMBER: _ClassVar[int]
    model: _jobs_pb2.ModelName
    frame: FrameAnswer
    mask: _tensor_pb2.Chunk
    measurements: Measurements
    unmeasured: _jobs_pb2.Failure
    def __init__(self, model: _Optional[_Union[_jobs_pb2.ModelName, _Mapping]] = ..., frame: _Optional[_Union[FrameAnswer, _Mapping]] = ..., mask: _Optional[_Union[_tensor_pb2.Chunk, _Mapping]] = ..., measurements: _Optional[_Union[Measurements, _Mapping]] = ..., unmeasured: _Optional[_Union[_jobs_pb2.Failure, _Mapping]] = ...) -> None: ...

class FrameAnswer(_message.Message):
    __slots__ = ("frame", "contour", "missing", "spread_mm", "structures", "shape", "mask_mm_per_pixel")
    FRAME_FIELD_NUMBER: _ClassVar[int]
    CONTOUR_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    SPREAD_MM_FIELD_NUMBER: _ClassVar[int]
    STRUCTURES_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    MASK_MM_PER_PIXEL_FIELD_NUMBER: _ClassVar[int]
    frame: int
    contour: Contour
    missing: int
    spread_mm: float
    structures: _containers.RepeatedScalarFieldContainer[str]
    shape: _containers.RepeatedScalarFieldContainer[int]
    mask_mm_per_pixel: Spacing
    def __init__(self, frame: _Optional[int] = ..., contour: _Optional[_Union[Contour, _Mapping]] = ..., missing: _Optional[int] = ..., spread_mm: _Optional[float] = ..., structures: _Optional[_Iterable[str]] = ..., shape: _Optional[_Iterable[int]] = ..., mask_mm_per_pixel: _Optional[_Union[Spacing, _Mapping]] = ...) -> None: ...

class Contour(_message.Message):
    __slots__ = ("points_xy_mm", "apex", "view", "frame", "mm_per_pixel", "covariance_mm2")
    POINTS_XY_MM_FIELD_NUMBER: _ClassVar[int]
    APEX_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    MM_PER_PIXEL_FIELD_NUMBER: _ClassVar[int]
    COVARIANCE_MM2_FIELD_NUMBER: _ClassVar[int]
    points_xy_mm: _tensor_pb2.Tensor
    apex: int
    view: str
    frame: int
    mm_per_pixel: Spacing
    covariance_mm2: _tensor_pb2.Tensor
    def __init__(self, points_xy_mm: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., apex: _Optional[int] = ..., view: _Optional[str] = ..., frame: _Optional[int] = ..., mm_per_pixel: _Optional[_Union[Spacing, _Mapping]] = ..., covariance_mm2: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class Measurements(_message.Message):
    __slots__ = ("measurements", "cautions", "ed", "es", "keys")
    MEASUREMENTS_FIELD_NUMBER: _ClassVar[int]
    CAUTIONS_FIELD_NUMBER: _ClassVar[int]
    ED_FIELD_NUMBER: _ClassVar[int]
    ES_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    measurements: _containers.RepeatedCompositeFieldContainer[Measurement]
    cautions: _containers.RepeatedScalarFieldContainer[str]
    ed: int
    es: int
    keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, measurements: _Optional[_Iterable[_Union[Measurement, _Mapping]]] = ..., cautions: _Optional[_Iterable[str]] = ..., ed: _Optional[int] = ..., es: _Optional[int] = ..., keys: _Optional[_Iterable[str]] = ...) -> None: ...

class Measurement(_message.Message):
    __slots__ = ("name", "value", "unit", "method", "views", "frames", "mm_per_pixel", "interval", "flags")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    MM_PER_PIXEL_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    unit: str
    method: str
    views: _containers.RepeatedScalarFieldContainer[str]
    frames: _containers.RepeatedScalarFieldContainer[int]
    mm_per_pixel: _containers.RepeatedCompositeFieldContainer[Spacing]
    interval: Interval
    flags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ..., unit: _Optional[str] = ..., method: _Optional[str] = ..., views: _Optional[_Iterable[str]] = ..., frames: _Optional[_Iterable[int]] = ..., mm_per_pixel: _Optional[_Iterable[_Union[Spacing, _Mapping]]] = ..., interval: _Optional[_Union[Interval, _Mapping]] = ..., flags: _Optional[_Iterable[str]] = ...) -> None: ...

class Interval(_message.Message):
    __slots__ = ("low", "high", "level")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    low: float
    high: float
    level: float
    def __init__(self, low: _Optional[float] = ..., high: _Optional[float] = ..., level: _Optional[float] = ...) -> None: ...
