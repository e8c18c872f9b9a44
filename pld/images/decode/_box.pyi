"""The compiled part of jpeg_box.py; see native/module.c."""

def decode(
    data: bytes, size: tuple[int, int], box: tuple[int, int, int, int], out: bytearray | memoryview, /
) -> bool: ...
