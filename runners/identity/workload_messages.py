"""Build the messages of the SPIFFE Workload API from their fields; nothing is generated, and no file is copied.

The names and numbers are those of the specification (SPIFFE_Workload_API.md, section 4). The messages are in a pool of
their own, so that a program may load another library's beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import struct_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

SERVICE: Final = "SpiffeWorkloadAPI"
_STRUCT: Final = ".google.protobuf.Struct"
_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "X509SVIDRequest": (),
    "X509SVIDResponse": (
        "svids repeated X509SVID",
        "crl repeated bytes",
        "federated_bundles map bytes",
    ),
    "X509SVID": (
        "spiffe_id string",
        "x509_svid bytes",
        "x509_svid_key bytes",
        "bundle bytes",
        "hint string",
    ),
    "X509BundlesRequest": (),
    "X509BundlesResponse": ("crl repeated bytes", "bundles map bytes"),
    "JWTSVIDRequest": ("audience repeated string", "spiffe_id string"),
    "JWTSVIDResponse": ("svids repeated JWTSVID",),
    "JWTSVID": ("spiffe_id string", "svid string", "hint string"),
    "JWTBundlesRequest": (),
    "JWTBundlesResponse": ("bundles map bytes",),
    "ValidateJWTSVIDRequest": ("audience string", "svid string"),
    "ValidateJWTSVIDResponse": ("spiffe_id string", f"claims {_STRUCT}"),
}
"""Each message's fields in the order of their numbers, from 1: a name, `repeated` or `map` (from strings), a type."""
_SCALARS: Final = {"string": FieldDescriptorProto.TYPE_STRING, "bytes": FieldDescriptorProto.TYPE_BYTES}


def _add_field(message: DescriptorProto, number: int, text: str) -> None:
    name, *labels, kind = text.split()
    field = message.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
    if labels:
        field.label = FieldDescriptorProto.LABEL_REPEATED
    if labels == ["map"]:
        entry = message.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _add_field(entry, 1, "key string")
        _add_field(entry, 2, f"value {kind}")
        kind = f".{message.name}.{entry.name}"
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = kind if kind.startswith(".") else f".{kind}"


def _built() -> dict[str, Any]:
    pool = DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    file = FileDescriptorProto(name="workload.proto", syntax="proto3")
    file.dependency.append(struct_pb2.DESCRIPTOR.name)
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for number, text in enumerate(fields, 1):
            _add_field(message, number, text)
    pool.AddSerializedFile(file.SerializeToString())
    return {name: GetMessageClass(pool.FindMessageTypeByName(name)) for name in _FIELDS}


MESSAGES: Final = _built()
"""The classes of messages by their names."""
