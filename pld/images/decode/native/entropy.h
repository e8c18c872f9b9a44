// Huffman-coded coefficients (ITU-T T.81, annex F.2.2), a block at a time.
//
// Escapes are taken out of the whole scan first, so that a reader of bits need not look for them; behind the last bit
// are zeros enough for one unit of the longest codes, so that it need not look for the end either.

#pragma once

#include <stdlib.h>

#include "header.h"

enum { LOOK_BITS = 10, UNIT_BYTES = 2048, RANGE = 2047 };

typedef struct {
    const uint8_t *at, *end;
    uint64_t next;  // bits, from the top
    int num;        // how many of them count; the others are right or 0
} Bits;

// One code, in bytes from the lowest: how many bits it takes with the number behind it, how many without, how many the
// number, and how many zeros come before that. BLOCK_ENDS and NO_CODE are zeros beyond a block's end.
typedef uint32_t Code;
enum { BLOCK_ENDS = 64, NO_CODE = 65 };

static inline int total_bits(Code code) { return code & 255; }
static inline int code_bits(Code code) { return code >> 8 & 255; }
static inline int number_bits(Code code) { return code >> 16 & 255; }
static inline int zeros_before(Code code) { return (int)(code >> 24); }

typedef struct {
    Code short_codes[1 << LOOK_BITS];  // by the next bits; 0 where the code is longer
    uint32_t ends[17];                 // by length: one past its last code, as if of 16 bits
    int offsets[17];                   // by length: from a code to its place in `symbols`
    const uint8_t *symbols;
} Table;

// The scan without its escapes, to be freed; NULL where it does not end with the image or holds another marker.
static uint8_t *without_escapes(const uint8_t *at, const uint8_t *end, size_t *size) {
    uint8_t *scan = malloc((size_t)(end - at) + UNIT_BYTES), *to = scan;
    for (bool more = true; scan && more;) {
        const uint8_t *escape = memchr(at, 0xFF, (size_t)(end - at));
        if (!escape || end - escape < 2 || (escape[1] != 0 && escape[1] != 0xD9)) {
            free(scan);
            return NULL;
        }
        more = escape[1] == 0;
        size_t num = (size_t)(escape - at) + more;
        memcpy(to, at, num);
        to += num;
        at = escape + 2;
    }
    if (!scan) return NULL;
    memset(to, 0, UNIT_BYTES);
    *size = (size_t)(to - scan);
    return scan;
}

// Whether 8-bit samples can need such a symbol: differences of 11 bits, coefficients of 10.
static inline bool is_symbol(uint8_t symbol, bool is_dc) {
    int number = symbol & 15;
    return is_dc ? symbol <= 11 : number ? number <= 10 : symbol == 0 || symbol == 0xF0;
}

static inline Code code_of(uint8_t symbol, int length, bool is_dc) {
    uint32_t number = symbol & 15, zeros = !is_dc && symbol == 0 ? BLOCK_ENDS : symbol >> 4, bits = (uint32_t)length;
    return zeros << 24 | number << 16 | bits << 8 | (bits + number);
}

// False where the lengths are not those of a code, which leaves the ones alone free, or a symbol is none.
static bool make_table(Table *table, Codes codes, bool is_dc) {
    memset(table->short_codes, 0, sizeof table->short_codes);
    table->symbols = codes.symbols;
    uint32_t code = 0, place = 0;
    for (int length = 1; length <= 16; length++, code <<= 1) {
        table->offsets[length] = (int)place - (int)code;
        if (code + codes.counts[length - 1] >= 1u << length) return false;
        for (int i = 0; i < codes.counts[length - 1]; i++, code++, place++) {
            uint8_t symbol = codes.symbols[place];
            if (!is_symbol(symbol, is_dc)) return false;
            if (length > LOOK_BITS) continue;
            uint32_t num = 1u << (LOOK_BITS - length), first = code * num;
            for (uint32_t k = first; k < first + num; k++) table->short_codes[k] = code_of(symbol, length, is_dc);
        }
        table->ends[length] = code << (16 - length);
    }
    return true;
}

// There are 56 bits or more afterwards: enough for two codes with their numbers, of 27 bits at most.
static inline void refill(Bits *bits) {
    uint64_t next;
    memcpy(&next, bits->at, sizeof next);
    bits->next |= __builtin_bswap64(next) >> bits->num;
    bits->at += (63 - bits->num) >> 3;
    bits->num |= 56;
}

static inline void drop(Bits *bits, Code code) {
    bits->next <<= total_bits(code);
    bits->num -= total_bits(code);
}

static __attribute__((noinline)) Code long_code(const Table *table, uint64_t bits, bool is_dc) {
    uint32_t next = (uint32_t)(bits >> 48);
    for (int length = LOOK_BITS + 1; length <= 16; length++)
        if (next < table->ends[length])
            return code_of(table->symbols[(int)(next >> (16 - length)) + table->offsets[length]], length, is_dc);
    return (Code)NO_CODE << 24;
}

static inline Code next_code(const Table *table, const Bits *bits, bool is_dc) {
    Code code = table->short_codes[bits->next >> (64 - LOOK_BITS)];
    return __builtin_expect(code != 0, 1) ? code : long_code(table, bits->next, is_dc);
}

// The number behind a code: of n bits, those that begin with 0 stand for the negative ones.
static inline int number_behind(const Bits *bits, Code code) {
    uint64_t from = bits->next << code_bits(code);
    int negative = (int)((int64_t)~from >> 63);
    return (int)(from >> 1 >> (63 - number_bits(code))) + (negative & (int)((~0u << number_bits(code)) + 1));
}

// Adds a block's difference to `mean`; false where there is none.
static inline bool read_mean(Bits *bits, const Table *dc, int *mean) {
    refill(bits);
    Code code = next_code(dc, bits, true);
    *mean = (int16_t)(*mean + number_behind(bits, code));
    drop(bits, code);
    return zeros_before(code) == 0;
}

// A block's coefficients, dequantized, in natural order; `block` is zeros before. Returns the last one's place in zigzag
// order, or -1 where the data is damaged: no 8-bit image has coefficients beyond RANGE, and 16 bits could overflow.
static __attribute__((noinline)) int read_block(Bits *all, const Table *dc, const Table *ac, const uint8_t *quantizer,
                                                int *mean, int16_t *block) {
    static const uint8_t natural[64] = {0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,
                                        12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6,  7,  14, 21, 28,
                                        35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
                                        58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};
    Bits bits = *all;  // in registers
    if (!read_mean(&bits, dc, mean)) return -1;
    int value = *mean * quantizer[0], widest = value ^ value >> 31;
    block[0] = (int16_t)value;
    for (int k = 0;;)
        for (int i = 0; i < 2; i++) {
            if (i == 1) refill(&bits);
            int last = k;
            Code code = next_code(ac, &bits, false);
            k += zeros_before(code) + 1;
            if (k <= 63) {
                value = number_behind(&bits, code) * quantizer[k];
                widest |= value ^ value >> 31;
                block[natural[k]] = (int16_t)value;
            }
            drop(&bits, code);
            if (k < 63) continue;
            *all = bits;
            bool good = (k == 63 || zeros_before(code) == BLOCK_ENDS) && widest <= RANGE;
            return !good ? -1 : k == 63 ? 63 : last;
        }
}

// The same of a block that nobody wants: its difference is kept, its coefficients are passed over.
static inline bool pass_block(Bits *all, const Table *dc, const Table *ac, int *mean) {
    Bits bits = *all;
    if (!read_mean(&bits, dc, mean)) return false;
    for (int k = 0;;)
        for (int i = 0; i < 2; i++) {
            if (i == 1) refill(&bits);
            Code code = next_code(ac, &bits, false);
            k += zeros_before(code) + 1;
            drop(&bits, code);
            if (k < 63) continue;
            *all = bits;
            return k == 63 || zeros_before(code) == BLOCK_ENDS;
        }
}
