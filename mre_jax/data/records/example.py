"""Triplets as tf.train.Example messages, without TensorFlow.

The message is described here by its public wire format: a map from names to lists of bytes, floats
or integers. Records hold the pictures as their files do, encoded.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from mre_jax.data.provenance import Provenance
from mre_jax.data.triplets import Triplet
from mre_jax.errors import DataError
from mre_jax.io.json_file import parse_json
from mre_jax.reward.file import Texts
from mre_jax.reward.scores import PERSPECTIVES, Scores

Feature: TypeAlias = Sequence[bytes] | np.ndarray
"""A list of bytes, or a vector of float32 or int64."""

Features: TypeAlias = dict[str, Feature]

NO_SCORE = -1.0
NAMES = (
    "id", "source", "original", "edited", "instruction",
    "original_caption", "edited_caption", "scores", "texts",
)  # fmt: skip
"""The features every record has."""

_OPTIONAL = ("original_id", "group")
"""Texts of a triplet that are written where they are not empty."""

_INSTRUCTIONS = "instructions"
"""All that it has, where there are several."""

_PROVENANCE = "provenance"
"""A JSON object, where a model made the edit."""

_LISTS = {"bytes_list": "bytes", "float_list": "float32", "int64_list": "int64"}


def encode_triplet(triplet: Triplet, extra: Mapping[str, Feature] | None = None) -> bytes:
    """The record of a triplet; equal triplets give equal bytes.

    What is None is written as "" (captions, texts) or as `NO_SCORE`.

    Args:
        triplet: whatever `Triplet` accepts.
        extra: further features, such as cached latents.
    """
    scores = (NO_SCORE,) * len(PERSPECTIVES) if triplet.scores is None else triplet.scores
    texts = ("",) * len(PERSPECTIVES) if triplet.texts is None else triplet.texts
    features: Features = {
        "id": [triplet.id.encode()],
        "source": [triplet.source.encode()],
        "original": [triplet.original],
        "edited": [triplet.edited],
        "instruction": [triplet.instruction.encode()],
        "original_caption": [(triplet.original_caption or "").encode()],
        "edited_caption": [(triplet.edited_caption or "").encode()],
        "scores": np.asarray(scores, np.float32),
        "texts": [text.encode() for text in texts],
    }
    if triplet.instructions:
        features[_INSTRUCTIONS] = [text.encode() for text in triplet.instructions]
    if triplet.provenance is not None:
        text = json.dumps(triplet.provenance.to_json(), sort_keys=True)
        features[_PROVENANCE] = [text.encode()]
    for name in _OPTIONAL:
        if value := getattr(triplet, name):
            features[name] = [value.encode()]
    return encode_features({**features, **(extra or {})})


def decode_triplet(record: bytes, where: str = "record") -> tuple[Triplet, Features]:
    """The triplet of a record, and the features that are not part of one.

    An empty caption comes back as None; empty texts come back as None if there are no scores.
    Scores come back as the shortest numbers of their float32 value, so that 4.3 stays 4.3.

    Args:
        record: bytes by `encode_triplet`.
        where: what errors call it; it becomes the triplet's `where`.

    Raises:
        DataError: naming the feature that is missing, damaged, or not of its kind.
    """
    features = decode_features(record, where)
    texts = {
        name: _texts(features, name, where)
        for name in NAMES
        if name not in ("original", "edited", "scores", "texts")
    }
    scores, optional = _scores(features, where), _optional(features, where)
    triplet = Triplet(
        id=texts["id"],
        original=_bytes(features, "original", 1, where)[0],
        edited=_bytes(features, "edited", 1, where)[0],
        instruction=texts["instruction"],
        original_caption=texts["original_caption"] or None,
        edited_caption=texts["edited_caption"] or None,
        scores=scores,
        texts=_reward_texts(features, scores, where),
        source=texts["source"],
        where=where,
        original_id=optional.get("original_id", ""),
        instructions=tuple(
            _decode(text, _INSTRUCTIONS, where) for text in features.get(_INSTRUCTIONS, ())
        ),
        group=optional.get("group", ""),
        provenance=_provenance(features, where),
    )
    known = (*NAMES, *_OPTIONAL, _INSTRUCTIONS, _PROVENANCE)
    return triplet, {name: value for name, value in features.items() if name not in known}


def decode_entry(record: bytes, where: str = "record") -> tuple[Scores | None, str]:
    """Scores and group alone, for an index of all records; see `decode_triplet`."""
    features = decode_features(record, where)
    return _scores(features, where), _optional(features, where).get("group", "")


def decode_asked(record: bytes, where: str = "record") -> bytes:
    """A hash of the original picture's bytes and of the instructions; see `decode_triplet`."""
    features = decode_features(record, where)
    texts = {*_bytes(features, "instruction", 1, where), *features.get(_INSTRUCTIONS, ())}
    digest = hashlib.sha256(_bytes(features, "original", 1, where)[0])
    for text in sorted(texts):
        digest.update(len(text).to_bytes(8, "little") + text)
    return digest.digest()


def encode_features(features: Mapping[str, Feature]) -> bytes:
    """Serialises features, in the order of their names."""
    message = _Example()
    for name in sorted(features):
        value, feature = features[name], message.features.feature[name]
        if not isinstance(value, np.ndarray):
            feature.bytes_list.value.extend(value)
        elif value.dtype == np.float32:
            feature.float_list.value.extend(value.tolist())
        elif value.dtype == np.int64:
            feature.int64_list.value.extend(value.tolist())
        else:
            raise TypeError(f"feature {name!r} of {value.dtype}: want float32, int64 or bytes")
    return message.SerializeToString(deterministic=True)


def decode_features(record: bytes, where: str = "record") -> Features:
    """Parses a tf.train.Example; a feature without a value is an empty list.

    Raises:
        DataError: if it is not one.
    """
    message = _Example()
    try:
        message.ParseFromString(record)
    except DecodeError:
        raise DataError(f"{where}: not a tf.train.Example") from None
    return {name: _value(feature) for name, feature in message.features.feature.items()}


def _value(feature: Any) -> Feature:
    kind = feature.WhichOneof("kind")
    if kind is None or kind == "bytes_list":
        return list(feature.bytes_list.value)
    return np.array(getattr(feature, kind).value, _LISTS[kind])


def _bytes(features: Features, name: str, count: int, where: str) -> list[bytes]:
    value = features.get(name)
    if value is None:
        raise DataError(f"{where}: no feature {name!r}; it has {', '.join(sorted(features))}")
    if isinstance(value, np.ndarray) or len(value) != count:
        kind = value.dtype if isinstance(value, np.ndarray) else "bytes"
        raise DataError(
            f"{where}: feature {name!r} has {len(value)} values of {kind}; want {count} of bytes"
        )
    return list(value)


def _texts(features: Features, name: str, where: str) -> str:
    return _decode(_bytes(features, name, 1, where)[0], name, where)


def _optional(features: Features, where: str) -> dict[str, str]:
    return {name: _texts(features, name, where) for name in _OPTIONAL if name in features}


def _reward_texts(features: Features, scores: Scores | None, where: str) -> Texts | None:
    stored = _bytes(features, "texts", len(PERSPECTIVES), where)
    texts = tuple(_decode(text, "texts", where) for text in stored)
    return None if scores is None and not any(texts) else texts


def _provenance(features: Features, where: str) -> Provenance | None:
    if _PROVENANCE not in features:
        return None
    text = _texts(features, _PROVENANCE, where)
    return Provenance.from_json(parse_json(text.encode(), f"{where}: {_PROVENANCE}"), where)


def _scores(features: Features, where: str) -> Scores | None:
    value = features.get("scores")
    count = len(PERSPECTIVES)
    if not isinstance(value, np.ndarray) or value.dtype != np.float32 or value.shape != (count,):
        raise DataError(f"{where}: feature 'scores' is not {count} floats")
    if (value == NO_SCORE).all():
        return None
    return tuple(float(str(score)) for score in value)


def _decode(data: bytes, name: str, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise DataError(f"{where}: feature {name!r} is not UTF-8 text") from None


def _example_class() -> Any:
    """Builds the message type; in a pool of its own, beside TensorFlow's if that is loaded."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="mre_jax/example.proto", package="mre_jax", syntax="proto3"
    )
    values = (("BytesList", kinds.TYPE_BYTES), ("FloatList", kinds.TYPE_FLOAT),
              ("Int64List", kinds.TYPE_INT64))  # fmt: skip
    for name, kind in values:
        _field(file.message_type.add(name=name), "value", 1, kind, repeated=True)

    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (field, (name, _)) in enumerate(zip(_LISTS, values, strict=True), start=1):
        _field(feature, field, number, f".mre_jax.{name}").oneof_index = 0

    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    _field(entry, "key", 1, kinds.TYPE_STRING)
    _field(entry, "value", 2, ".mre_jax.Feature")
    _field(features, "feature", 1, ".mre_jax.Features.FeatureEntry", repeated=True)

    _field(file.message_type.add(name="Example"), "features", 1, ".mre_jax.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("mre_jax.Example"))


def _field(message: Any, name: str, number: int, kind: int | str, repeated: bool = False) -> Any:
    kinds = descriptor_pb2.FieldDescriptorProto
    field = message.field.add(
        name=name, number=number, label=kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
    )
    if isinstance(kind, str):
        field.type, field.type_name = kinds.TYPE_MESSAGE, kind
    else:
        field.type = kind
    return field


_Example = _example_class()
