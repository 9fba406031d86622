"""A real ONNX file of a few hundred bytes, written without the `onnx` package: protocol buffers by hand.

Field numbers are those of onnx.proto3 (IR version 8, operator set 13).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

FLOAT = 1


def detector(detections: Sequence[Sequence[float]], metadata: Mapping[str, str], side: int = 1024) -> bytes:
    """A model that finds the same boxes on every image, the first one with the image's mean level as its confidence.

    images [1, 3, side, side] → output [1, N, 6], as DocLayout-YOLO has it.
    """
    count = len(detections)
    boxes = [value for detection in detections for value in detection]
    mask = [1.0 if at == 4 else 0.0 for at in range(6 * count)]
    shape = (1, count, 6)
    nodes = [
        _node("ReduceMean", ["images"], ["mean"], _ints("axes", [1, 2, 3]), _int("keepdims", 1)),
        _node("Reshape", ["mean", "flat"], ["level"]),
        _node("Mul", ["level", "mask"], ["lift"]),
        _node("Add", ["boxes", "lift"], ["output"]),
    ]
    tensors = [
        _tensor("boxes", shape, struct.pack(f"<{len(boxes)}f", *boxes), FLOAT),
        _tensor("mask", shape, struct.pack(f"<{len(mask)}f", *mask), FLOAT),
        _tensor("flat", (3,), struct.pack("<3q", 1, 1, 1), 7),
    ]
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, b"detector")
    graph += b"".join(_field(5, tensor) for tensor in tensors)
    graph += _field(11, _value("images", (1, 3, side, side))) + _field(12, _value("output", shape))
    opset = _field(1, b"") + _number(2, 13)
    facts = b"".join(_field(14, _field(1, key.encode()) + _field(2, text.encode())) for key, text in metadata.items())
    return _number(1, 8) + _field(7, graph) + _field(8, opset) + facts


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _field(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _node(operator: str, inputs: list[str], outputs: list[str], *attributes: bytes) -> bytes:
    names = [_field(1, name.encode()) for name in inputs] + [_field(2, name.encode()) for name in outputs]
    return b"".join(names) + _field(4, operator.encode()) + b"".join(_field(5, attribute) for attribute in attributes)


def _ints(name: str, values: list[int]) -> bytes:
    return _field(1, name.encode()) + b"".join(_number(8, value) for value in values) + _number(20, 7)


def _int(name: str, value: int) -> bytes:
    return _field(1, name.encode()) + _number(3, value) + _number(20, 2)


def _tensor(name: str, shape: Sequence[int], content: bytes, kind: int) -> bytes:
    return (
        b"".join(_number(1, side) for side in shape) + _number(2, kind) + _field(8, name.encode()) + _field(9, content)
    )


def _value(name: str, shape: Sequence[int]) -> bytes:
    sides = b"".join(_field(1, _number(1, side)) for side in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, FLOAT) + _field(2, sides)))
