from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProfileRequest(_message.Message):
    __slots__ = ("model", "layer", "with_words", "with_thumbnails")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    WITH_WORDS_FIELD_NUMBER: _ClassVar[int]
    WITH_THUMBNAILS_FIELD_NUMBER: _ClassVar[int]
    model: str
    layer: str
    with_words: bool
    with_thumbnails: bool
    def __init__(self, model: _Optional[str] = ..., layer: _Optional[str] = ..., with_words: _Optional[bool] = ..., with_thumbnails: _Optional[bool] = ...) -> None: ...

class ProfileResponse(_message.Message):
    __slots__ = ("images", "bundle_digest", "layer", "words", "filters", "error")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[ImageProfile]
    bundle_digest: str
    layer: str
    words: _containers.RepeatedScalarFieldContainer[str]
    filters: _containers.RepeatedCompositeFieldContainer[FilterNames]
    error: _status_pb2.Status
    def __init__(self, images: _Optional[_Iterable[_Union[ImageProfile, _Mapping]]] = ..., bundle_digest: _Optional[str] = ..., layer: _Optional[str] = ..., words: _Optional[_Iterable[str]] = ..., filters: _Optional[_Iterable[_Union[FilterNames, _Mapping]]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class FilterNames(_message.Message):
    __slots__ = ("words", "verdict")
    WORDS_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    words: _containers.RepeatedScalarFieldContainer[str]
    verdict: str
    def __init__(self, words: _Optional[_Iterable[str]] = ..., verdict: _Optional[str] = ...) -> None: ...

class ImageProfile(_message.Message):
    __slots__ = ("error", "fingerprint", "activation", "qualified", "word_scores", "thumbnail")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    QUALIFIED_FIELD_NUMBER: _ClassVar[int]
    WORD_SCORES_FIELD_NUMBER: _ClassVar[int]
    THUMBNAIL_FIELD_NUMBER: _ClassVar[int]
    error: _status_pb2.Status
    fingerprint: bytes
    activation: bytes
    qualified: bytes
    word_scores: bytes
    thumbnail: bytes
    def __init__(self, error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., fingerprint: _Optional[bytes] = ..., activation: _Optional[bytes] = ..., qualified: _Optional[bytes] = ..., word_scores: _Optional[bytes] = ..., thumbnail: _Optional[bytes] = ...) -> None: ...
