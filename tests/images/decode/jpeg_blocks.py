"""Grey JPEGs made of coefficients that no encoder would choose."""

import struct

import numpy as np

# A code for each symbol that there can be: the numbers' bits for means, zeros and bits for the rest.
_MEANS = {number: (number, 4) for number in range(12)}
_OTHERS = {
    symbol: (code, 8)
    for code, symbol in enumerate([0x00, 0xF0, *(zeros << 4 | bits for zeros in range(16) for bits in range(1, 11))])
}


def gray_jpeg(blocks: np.ndarray, quantizer: int = 1, means: bytes | None = None) -> bytes:
    """One row of blocks.

    Args:
        blocks: int [n, 64], quantized coefficients in zigzag order.
        quantizer: of all of them.
        means: the table of means' codes in place of our own.
    """
    bits, before = [], 0
    for block in blocks.tolist():
        bits += [_number(_MEANS, 0, block[0] - before), *_rest(block)]
        before = block[0]
    scan = "".join(bits)
    scan += "1" * (-len(scan) % 8)
    body = int(scan, 2).to_bytes(len(scan) // 8, "big").replace(b"\xff", b"\xff\x00")
    return b"".join(
        [
            b"\xff\xd8",
            _segment(0xDB, bytes([0, *[quantizer] * 64])),
            _segment(0xC0, struct.pack(">BHHB3B", 8, 8, 8 * len(blocks), 1, 1, 0x11, 0)),
            _segment(0xC4, means or _table(0x00, _MEANS)),
            _segment(0xC4, _table(0x10, _OTHERS)),
            _segment(0xDA, bytes([1, 1, 0, 0, 63, 0])),
            body,
            b"\xff\xd9",
        ]
    )


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def _table(head: int, codes: dict[int, tuple[int, int]]) -> bytes:
    lengths = [length for _, length in codes.values()]
    return bytes([head, *[lengths.count(length) for length in range(1, 17)], *codes])


def _number(codes: dict[int, tuple[int, int]], zeros: int, number: int) -> str:
    size = abs(number).bit_length()
    code, length = codes[zeros << 4 | size]
    behind = number if number > 0 else number + (1 << size) - 1
    return format(code, f"0{length}b") + (format(behind, f"0{size}b") if size else "")


def _rest(block: list[int]) -> list[str]:
    bits, zeros = [], 0
    last = max((k for k in range(64) if block[k]), default=0)
    for number in block[1 : last + 1]:
        if not number:
            zeros += 1
            continue
        bits += [_number(_OTHERS, 15, 0)] * (zeros // 16)
        bits.append(_number(_OTHERS, zeros % 16, number))
        zeros = 0
    return [*bits, _number(_OTHERS, 0, 0)] if last < 63 else bits
