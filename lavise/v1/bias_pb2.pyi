import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ImageSet(_message.Message):
    __slots__ = ("name", "display_name", "state", "received_images", "image_count", "rejected", "rejected_count", "layer", "bundle_digest", "create_time", "expire_time", "thumbnails")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[ImageSet.State]
        STATE_UPLOADING: _ClassVar[ImageSet.State]
        STATE_READY: _ClassVar[ImageSet.State]
    STATE_UNSPECIFIED: ImageSet.State
    STATE_UPLOADING: ImageSet.State
    STATE_READY: ImageSet.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_IMAGES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    THUMBNAILS_FIELD_NUMBER: _ClassVar[int]
    name: str
    display_name: str
    state: ImageSet.State
    received_images: int
    image_count: int
    rejected: _containers.RepeatedCompositeFieldContainer[RejectedImage]
    rejected_count: int
    layer: str
    bundle_digest: str
    create_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    thumbnails: bool
    def __init__(self, name: _Optional[str] = ..., display_name: _Optional[str] = ..., state: _Optional[_Union[ImageSet.State, str]] = ..., received_images: _Optional[int] = ..., image_count: _Optional[int] = ..., rejected: _Optional[_Iterable[_Union[RejectedImage, _Mapping]]] = ..., rejected_count: _Optional[int] = ..., layer: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., thumbnails: _Optional[bool] = ...) -> None: ...

class RejectedImage(_message.Message):
    __slots__ = ("index", "source", "error")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    index: int
    source: str
    error: _status_pb2.Status
    def __init__(self, index: _Optional[int] = ..., source: _Optional[str] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class UploadImageSetRequest(_message.Message):
    __slots__ = ("metadata", "chunk")
    METADATA_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    metadata: ImageSetMetadata
    chunk: ImageChunk
    def __init__(self, metadata: _Optional[_Union[ImageSetMetadata, _Mapping]] = ..., chunk: _Optional[_Union[ImageChunk, _Mapping]] = ...) -> None: ...

class ImageSetMetadata(_message.Message):
    __slots__ = ("name", "display_name", "layer", "thumbnails", "model")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    THUMBNAILS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    name: str
    display_name: str
    layer: str
    thumbnails: bool
    model: str
    def __init__(self, name: _Optional[str] = ..., display_name: _Optional[str] = ..., layer: _Optional[str] = ..., thumbnails: _Optional[bool] = ..., model: _Optional[str] = ...) -> None: ...

class ImageChunk(_message.Message):
    __slots__ = ("index", "content", "source", "last")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    index: int
    content: bytes
    source: str
    last: bool
    def __init__(self, index: _Optional[int] = ..., content: _Optional[bytes] = ..., source: _Optional[str] = ..., last: _Optional[bool] = ...) -> None: ...

class UploadImageSetResponse(_message.Message):
    __slots__ = ("image_set",)
    IMAGE_SET_FIELD_NUMBER: _ClassVar[int]
    image_set: ImageSet
    def __init__(self, image_set: _Optional[_Union[ImageSet, _Mapping]] = ...) -> None: ...

class ImportImageSetRequest(_message.Message):
    __slots__ = ("metadata", "uri")
    METADATA_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    metadata: ImageSetMetadata
    uri: str
    def __init__(self, metadata: _Optional[_Union[ImageSetMetadata, _Mapping]] = ..., uri: _Optional[str] = ...) -> None: ...

class ImportImageSetResponse(_message.Message):
    __slots__ = ("image_set",)
    IMAGE_SET_FIELD_NUMBER: _ClassVar[int]
    image_set: ImageSet
    def __init__(self, image_set: _Optional[_Union[ImageSet, _Mapping]] = ...) -> None: ...

class GetImageSetRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetImageSetResponse(_message.Message):
    __slots__ = ("image_set",)
    IMAGE_SET_FIELD_NUMBER: _ClassVar[int]
    image_set: ImageSet
    def __init__(self, image_set: _Optional[_Union[ImageSet, _Mapping]] = ...) -> None: ...

class ListImageSetsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListImageSetsResponse(_message.Message):
    __slots__ = ("image_sets", "next_page_token")
    IMAGE_SETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    image_sets: _containers.RepeatedCompositeFieldContainer[ImageSet]
    next_page_token: str
    def __init__(self, image_sets: _Optional[_Iterable[_Union[ImageSet, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteImageSetRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteImageSetResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CompareRequest(_message.Message):
    __slots__ = ("image_set_a", "image_set_b", "alpha", "seed", "permutations")
    IMAGE_SET_A_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SET_B_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PERMUTATIONS_FIELD_NUMBER: _ClassVar[int]
    image_set_a: str
    image_set_b: str
    alpha: float
    seed: int
    permutations: int
    def __init__(self, image_set_a: _Optional[str] = ..., image_set_b: _Optional[str] = ..., alpha: _Optional[float] = ..., seed: _Optional[int] = ..., permutations: _Optional[int] = ...) -> None: ...

class CompareResponse(_message.Message):
    __slots__ = ("progress", "comparison")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    COMPARISON_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    comparison: Comparison
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., comparison: _Optional[_Union[Comparison, _Mapping]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("stage", "done")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    stage: str
    done: float
    def __init__(self, stage: _Optional[str] = ..., done: _Optional[float] = ...) -> None: ...

class Comparison(_message.Message):
    __slots__ = ("name", "state", "request", "create_time", "expire_time", "progress", "report", "error")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Comparison.State]
        STATE_RUNNING: _ClassVar[Comparison.State]
        STATE_DONE: _ClassVar[Comparison.State]
        STATE_FAILED: _ClassVar[Comparison.State]
    STATE_UNSPECIFIED: Comparison.State
    STATE_RUNNING: Comparison.State
    STATE_DONE: Comparison.State
    STATE_FAILED: Comparison.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: Comparison.State
    request: CompareRequest
    create_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    progress: Progress
    report: Report
    error: _status_pb2.Status
    def __init__(self, name: _Optional[str] = ..., state: _Optional[_Union[Comparison.State, str]] = ..., request: _Optional[_Union[CompareRequest, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., report: _Optional[_Union[Report, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("a", "b", "layer", "bundle_digest", "alpha", "seed", "permutations", "caveats", "findings", "words", "filters", "duplicates", "duplicate_count", "significant_words", "significant_filters")
    A_FIELD_NUMBER: _ClassVar[int]
    B_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PERMUTATIONS_FIELD_NUMBER: _ClassVar[int]
    CAVEATS_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_COUNT_FIELD_NUMBER: _ClassVar[int]
    SIGNIFICANT_WORDS_FIELD_NUMBER: _ClassVar[int]
    SIGNIFICANT_FILTERS_FIELD_NUMBER: _ClassVar[int]
    a: Side
    b: Side
    layer: str
    bundle_digest: str
    alpha: float
    seed: int
    permutations: int
    caveats: _containers.RepeatedScalarFieldContainer[str]
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    words: _containers.RepeatedCompositeFieldContainer[WordDifference]
    filters: _containers.RepeatedCompositeFieldContainer[FilterDifference]
    duplicates: _containers.RepeatedCompositeFieldContainer[Duplicate]
    duplicate_count: int
    significant_words: int
    significant_filters: int
    def __init__(self, a: _Optional[_Union[Side, _Mapping]] = ..., b: _Optional[_Union[Side, _Mapping]] = ..., layer: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., alpha: _Optional[float] = ..., seed: _Optional[int] = ..., permutations: _Optional[int] = ..., caveats: _Optional[_Iterable[str]] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ..., words: _Optional[_Iterable[_Union[WordDifference, _Mapping]]] = ..., filters: _Optional[_Iterable[_Union[FilterDifference, _Mapping]]] = ..., duplicates: _Optional[_Iterable[_Union[Duplicate, _Mapping]]] = ..., duplicate_count: _Optional[int] = ..., significant_words: _Optional[int] = ..., significant_filters: _Optional[int] = ...) -> None: ...

class Side(_message.Message):
    __slots__ = ("name", "display_name", "image_count", "rejected_count")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    IMAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    REJECTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    name: str
    display_name: str
    image_count: int
    rejected_count: int
    def __init__(self, name: _Optional[str] = ..., display_name: _Optional[str] = ..., image_count: _Optional[int] = ..., rejected_count: _Optional[int] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("words", "filters", "difference", "p_value", "significant")
    WORDS_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    P_VALUE_FIELD_NUMBER: _ClassVar[int]
    SIGNIFICANT_FIELD_NUMBER: _ClassVar[int]
    words: _containers.RepeatedScalarFieldContainer[str]
    filters: _containers.RepeatedScalarFieldContainer[int]
    difference: float
    p_value: float
    significant: bool
    def __init__(self, words: _Optional[_Iterable[str]] = ..., filters: _Optional[_Iterable[int]] = ..., difference: _Optional[float] = ..., p_value: _Optional[float] = ..., significant: _Optional[bool] = ...) -> None: ...

class WordDifference(_message.Message):
    __slots__ = ("word", "layer", "mean_a", "mean_b", "difference", "low", "high", "p_value", "significant", "n_a", "n_b", "qualified_a", "qualified_b", "examples_a", "examples_b")
    WORD_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    MEAN_A_FIELD_NUMBER: _ClassVar[int]
    MEAN_B_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    P_VALUE_FIELD_NUMBER: _ClassVar[int]
    SIGNIFICANT_FIELD_NUMBER: _ClassVar[int]
    N_A_FIELD_NUMBER: _ClassVar[int]
    N_B_FIELD_NUMBER: _ClassVar[int]
    QUALIFIED_A_FIELD_NUMBER: _ClassVar[int]
    QUALIFIED_B_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_A_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_B_FIELD_NUMBER: _ClassVar[int]
    word: str
    layer: str
    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    p_value: float
    significant: bool
    n_a: int
    n_b: int
    qualified_a: float
    qualified_b: float
    examples_a: _containers.RepeatedCompositeFieldContainer[Example]
    examples_b: _containers.RepeatedCompositeFieldContainer[Example]
    def __init__(self, word: _Optional[str] = ..., layer: _Optional[str] = ..., mean_a: _Optional[float] = ..., mean_b: _Optional[float] = ..., difference: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., p_value: _Optional[float] = ..., significant: _Optional[bool] = ..., n_a: _Optional[int] = ..., n_b: _Optional[int] = ..., qualified_a: _Optional[float] = ..., qualified_b: _Optional[float] = ..., examples_a: _Optional[_Iterable[_Union[Example, _Mapping]]] = ..., examples_b: _Optional[_Iterable[_Union[Example, _Mapping]]] = ...) -> None: ...

class FilterDifference(_message.Message):
    __slots__ = ("layer", "index", "rate_a", "rate_b", "difference", "low", "high", "auroc", "q_value", "significant", "n_a", "n_b", "catalog_words", "verdict", "examples_a", "examples_b")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    RATE_A_FIELD_NUMBER: _ClassVar[int]
    RATE_B_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    AUROC_FIELD_NUMBER: _ClassVar[int]
    Q_VALUE_FIELD_NUMBER: _ClassVar[int]
    SIGNIFICANT_FIELD_NUMBER: _ClassVar[int]
    N_A_FIELD_NUMBER: _ClassVar[int]
    N_B_FIELD_NUMBER: _ClassVar[int]
    CATALOG_WORDS_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_A_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_B_FIELD_NUMBER: _ClassVar[int]
    layer: str
    index: int
    rate_a: float
    rate_b: float
    difference: float
    low: float
    high: float
    auroc: float
    q_value: float
    significant: bool
    n_a: int
    n_b: int
    catalog_words: _containers.RepeatedScalarFieldContainer[str]
    verdict: str
    examples_a: _containers.RepeatedCompositeFieldContainer[Example]
    examples_b: _containers.RepeatedCompositeFieldContainer[Example]
    def __init__(self, layer: _Optional[str] = ..., index: _Optional[int] = ..., rate_a: _Optional[float] = ..., rate_b: _Optional[float] = ..., difference: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., auroc: _Optional[float] = ..., q_value: _Optional[float] = ..., significant: _Optional[bool] = ..., n_a: _Optional[int] = ..., n_b: _Optional[int] = ..., catalog_words: _Optional[_Iterable[str]] = ..., verdict: _Optional[str] = ..., examples_a: _Optional[_Iterable[_Union[Example, _Mapping]]] = ..., examples_b: _Optional[_Iterable[_Union[Example, _Mapping]]] = ...) -> None: ...

class Example(_message.Message):
    __slots__ = ("source", "index", "value")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    source: str
    index: int
    value: float
    def __init__(self, source: _Optional[str] = ..., index: _Optional[int] = ..., value: _Optional[float] = ...) -> None: ...

class Duplicate(_message.Message):
    __slots__ = ("source_a", "source_b")
    SOURCE_A_FIELD_NUMBER: _ClassVar[int]
    SOURCE_B_FIELD_NUMBER: _ClassVar[int]
    source_a: str
    source_b: str
    def __init__(self, source_a: _Optional[str] = ..., source_b: _Optional[str] = ...) -> None: ...

class GetComparisonRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetComparisonResponse(_message.Message):
    __slots__ = ("comparison",)
    COMPARISON_FIELD_NUMBER: _ClassVar[int]
    comparison: Comparison
    def __init__(self, comparison: _Optional[_Union[Comparison, _Mapping]] = ...) -> None: ...

class ListComparisonsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListComparisonsResponse(_message.Message):
    __slots__ = ("comparisons", "next_page_token")
    COMPARISONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    comparisons: _containers.RepeatedCompositeFieldContainer[Comparison]
    next_page_token: str
    def __init__(self, comparisons: _Optional[_Iterable[_Union[Comparison, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteComparisonRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteComparisonResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
