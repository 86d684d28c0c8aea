from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExplainRequest(_message.Message):
    __slots__ = ("model", "images", "layer", "filters", "most_active", "all_filters", "top_k", "method", "heatmaps")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    MOST_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    ALL_FILTERS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    HEATMAPS_FIELD_NUMBER: _ClassVar[int]
    model: str
    images: _containers.RepeatedCompositeFieldContainer[Image]
    layer: str
    filters: FilterIndices
    most_active: int
    all_filters: bool
    top_k: int
    method: str
    heatmaps: bool
    def __init__(self, model: _Optional[str] = ..., images: _Optional[_Iterable[_Union[Image, _Mapping]]] = ..., layer: _Optional[str] = ..., filters: _Optional[_Union[FilterIndices, _Mapping]] = ..., most_active: _Optional[int] = ..., all_filters: _Optional[bool] = ..., top_k: _Optional[int] = ..., method: _Optional[str] = ..., heatmaps: _Optional[bool] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("content", "source")
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    content: bytes
    source: str
    def __init__(self, content: _Optional[bytes] = ..., source: _Optional[str] = ...) -> None: ...

class FilterIndices(_message.Message):
    __slots__ = ("indices",)
    INDICES_FIELD_NUMBER: _ClassVar[int]
    indices: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, indices: _Optional[_Iterable[int]] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("images", "bundle_digest", "error")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[ImageExplanation]
    bundle_digest: str
    error: _status_pb2.Status
    def __init__(self, images: _Optional[_Iterable[_Union[ImageExplanation, _Mapping]]] = ..., bundle_digest: _Optional[str] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class ImageExplanation(_message.Message):
    __slots__ = ("source", "predictions", "filters")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    source: str
    predictions: _containers.RepeatedCompositeFieldContainer[Prediction]
    filters: _containers.RepeatedCompositeFieldContainer[FilterExplanation]
    def __init__(self, source: _Optional[str] = ..., predictions: _Optional[_Iterable[_Union[Prediction, _Mapping]]] = ..., filters: _Optional[_Iterable[_Union[FilterExplanation, _Mapping]]] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("label", "probability")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    label: str
    probability: float
    def __init__(self, label: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class FilterExplanation(_message.Message):
    __slots__ = ("layer", "index", "activation", "threshold", "qualified", "inactive", "words", "verdict", "catalog_words", "heatmap")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    QUALIFIED_FIELD_NUMBER: _ClassVar[int]
    INACTIVE_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    CATALOG_WORDS_FIELD_NUMBER: _ClassVar[int]
    HEATMAP_FIELD_NUMBER: _ClassVar[int]
    layer: str
    index: int
    activation: float
    threshold: float
    qualified: bool
    inactive: bool
    words: _containers.RepeatedCompositeFieldContainer[Word]
    verdict: str
    catalog_words: _containers.RepeatedCompositeFieldContainer[Word]
    heatmap: Heatmap
    def __init__(self, layer: _Optional[str] = ..., index: _Optional[int] = ..., activation: _Optional[float] = ..., threshold: _Optional[float] = ..., qualified: _Optional[bool] = ..., inactive: _Optional[bool] = ..., words: _Optional[_Iterable[_Union[Word, _Mapping]]] = ..., verdict: _Optional[str] = ..., catalog_words: _Optional[_Iterable[_Union[Word, _Mapping]]] = ..., heatmap: _Optional[_Union[Heatmap, _Mapping]] = ...) -> None: ...

class Heatmap(_message.Message):
    __slots__ = ("height", "width", "values")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    values: bytes
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., values: _Optional[bytes] = ...) -> None: ...

class Word(_message.Message):
    __slots__ = ("word", "score")
    WORD_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    word: str
    score: float
    def __init__(self, word: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...

class DescribeFiltersRequest(_message.Message):
    __slots__ = ("model", "layer", "indices", "page_size", "page_token")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    model: str
    layer: str
    indices: _containers.RepeatedScalarFieldContainer[int]
    page_size: int
    page_token: str
    def __init__(self, model: _Optional[str] = ..., layer: _Optional[str] = ..., indices: _Optional[_Iterable[int]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class DescribeFiltersResponse(_message.Message):
    __slots__ = ("filters", "next_page_token", "bundle_digest", "error")
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    filters: _containers.RepeatedCompositeFieldContainer[FilterDescription]
    next_page_token: str
    bundle_digest: str
    error: _status_pb2.Status
    def __init__(self, filters: _Optional[_Iterable[_Union[FilterDescription, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class FilterDescription(_message.Message):
    __slots__ = ("layer", "index", "threshold", "words", "verdict", "q_value", "top_images")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    Q_VALUE_FIELD_NUMBER: _ClassVar[int]
    TOP_IMAGES_FIELD_NUMBER: _ClassVar[int]
    layer: str
    index: int
    threshold: float
    words: _containers.RepeatedCompositeFieldContainer[Word]
    verdict: str
    q_value: float
    top_images: _containers.RepeatedCompositeFieldContainer[TopImage]
    def __init__(self, layer: _Optional[str] = ..., index: _Optional[int] = ..., threshold: _Optional[float] = ..., words: _Optional[_Iterable[_Union[Word, _Mapping]]] = ..., verdict: _Optional[str] = ..., q_value: _Optional[float] = ..., top_images: _Optional[_Iterable[_Union[TopImage, _Mapping]]] = ...) -> None: ...

class TopImage(_message.Message):
    __slots__ = ("source", "activation")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    source: str
    activation: float
    def __init__(self, source: _Optional[str] = ..., activation: _Optional[float] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model", "bundle_digest", "cnn", "input_size", "layers", "vocabulary", "vocabulary_size", "methods", "providers", "device", "versions", "error")
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CNN_FIELD_NUMBER: _ClassVar[int]
    INPUT_SIZE_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_SIZE_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    model: str
    bundle_digest: str
    cnn: str
    input_size: int
    layers: _containers.RepeatedCompositeFieldContainer[Layer]
    vocabulary: str
    vocabulary_size: int
    methods: _containers.RepeatedScalarFieldContainer[str]
    providers: _containers.RepeatedScalarFieldContainer[str]
    device: str
    versions: _containers.ScalarMap[str, str]
    error: _status_pb2.Status
    def __init__(self, model: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., cnn: _Optional[str] = ..., input_size: _Optional[int] = ..., layers: _Optional[_Iterable[_Union[Layer, _Mapping]]] = ..., vocabulary: _Optional[str] = ..., vocabulary_size: _Optional[int] = ..., methods: _Optional[_Iterable[str]] = ..., providers: _Optional[_Iterable[str]] = ..., device: _Optional[str] = ..., versions: _Optional[_Mapping[str, str]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class Layer(_message.Message):
    __slots__ = ("name", "channels", "height", "width", "catalog_images", "mapper", "datasets")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    CATALOG_IMAGES_FIELD_NUMBER: _ClassVar[int]
    MAPPER_FIELD_NUMBER: _ClassVar[int]
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    name: str
    channels: int
    height: int
    width: int
    catalog_images: int
    mapper: str
    datasets: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., channels: _Optional[int] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., catalog_images: _Optional[int] = ..., mapper: _Optional[str] = ..., datasets: _Optional[_Iterable[str]] = ...) -> None: ...
