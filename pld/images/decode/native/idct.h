// The inverse DCT of libjpeg's "islow" method (Loeffler, Ligtenberg and Moschytz 1989, constants of 13 bits), in AVX2: the
// same bits as libjpeg-turbo gives.
//
// Two rows of eight lie in one register, one in each half; "04" holds rows 0 and 4.

#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    __m256i r04, r15, r26, r37;
} Rows;

// a * first + b * second for each column, where a pair of rows is [a | b].
static inline __m256i products(__m256i pair, int first, int second) {
    return _mm256_madd_epi16(pair, _mm256_set1_epi32((int)((uint32_t)second << 16 | (uint16_t)first)));
}

// What sums of 13 fractional bits were, had they been formed in 16 bits: libjpeg-turbo does so.
static inline __m256i wrapped(__m256i sums) { return _mm256_srai_epi32(_mm256_slli_epi32(sums, 3), 3); }

// [a | b] with each column's two numbers beside each other.
static inline __m256i beside(__m256i pair) {
    const __m256i order = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
    return _mm256_shuffle_epi8(_mm256_permute4x64_epi64(pair, 0xD8), order);
}

// Columns become rows; comes from sums of two rows each, columns 0 to 3 in the lower half.
static inline Rows transposed(__m256i r01, __m256i r23, __m256i r45, __m256i r67) {
    __m256i r02 = _mm256_unpacklo_epi16(r01, r23), r13 = _mm256_unpackhi_epi16(r01, r23);
    __m256i r46 = _mm256_unpacklo_epi16(r45, r67), r57 = _mm256_unpackhi_epi16(r45, r67);
    __m256i upper01 = _mm256_unpacklo_epi16(r02, r13), upper23 = _mm256_unpackhi_epi16(r02, r13);
    __m256i lower01 = _mm256_unpacklo_epi16(r46, r57), lower23 = _mm256_unpackhi_epi16(r46, r57);
    return (Rows){_mm256_unpacklo_epi64(upper01, lower01), _mm256_unpackhi_epi64(upper01, lower01),
                  _mm256_unpacklo_epi64(upper23, lower23), _mm256_unpackhi_epi64(upper23, lower23)};
}

// One dimension, over columns, `shift` bits rounded away; transposed.
static inline Rows idct_pass(Rows in, int shift) {
    __m256i r71 = _mm256_permute2x128_si256(in.r37, in.r15, 0x21), r35 = _mm256_blend_epi32(in.r37, in.r15, 0xF0);
    __m256i z34 = beside(_mm256_add_epi16(r71, r35)), r04 = beside(in.r04), r26 = beside(in.r26);
    r71 = beside(r71), r35 = beside(r35);
    __m256i half = _mm256_set1_epi32(1 << (shift - 1));

    __m256i sum = _mm256_add_epi32(wrapped(products(r04, 8192, 8192)), half);
    __m256i difference = _mm256_add_epi32(wrapped(products(r04, 8192, -8192)), half);
    __m256i half2 = products(r26, 4433, 4433 - 15137), half3 = products(r26, 4433 + 6270, 4433);
    __m256i even0 = _mm256_add_epi32(sum, half3), even3 = _mm256_sub_epi32(sum, half3);
    __m256i even1 = _mm256_add_epi32(difference, half2), even2 = _mm256_sub_epi32(difference, half2);

    __m256i z3 = products(z34, 9633 - 16069, 9633), z4 = products(z34, 9633, 9633 - 3196);
    __m256i odd0 = _mm256_add_epi32(products(r71, 2446 - 7373, -7373), z3);
    __m256i odd3 = _mm256_add_epi32(products(r71, -7373, 12299 - 7373), z4);
    __m256i odd1 = _mm256_add_epi32(products(r35, -20995, 16819 - 20995), z4);
    __m256i odd2 = _mm256_add_epi32(products(r35, 25172 - 20995, -20995), z3);

#define OUT(sign, even, odd) _mm256_srai_epi32(_mm256_##sign##_epi32(even, odd), shift)
    return transposed(_mm256_packs_epi32(OUT(add, even0, odd3), OUT(add, even1, odd2)),
                      _mm256_packs_epi32(OUT(add, even2, odd1), OUT(add, even3, odd0)),
                      _mm256_packs_epi32(OUT(sub, even3, odd0), OUT(sub, even2, odd1)),
                      _mm256_packs_epi32(OUT(sub, even1, odd2), OUT(sub, even0, odd3)));
#undef OUT
}

static inline __m256i two_rows(const int16_t *block, int first, int second) {
    const __m128i *rows = (const __m128i *)block;
    return _mm256_set_m128i(_mm_loadu_si128(rows + second), _mm_loadu_si128(rows + first));
}

// A block of coefficients in natural order as 8 x 8 samples, `stride` bytes a row.
static inline void idct(const int16_t *block, uint8_t *samples, ptrdiff_t stride) {
    Rows rows = {two_rows(block, 0, 4), two_rows(block, 1, 5), two_rows(block, 2, 6), two_rows(block, 3, 7)};
    rows = idct_pass(idct_pass(rows, 11), 18);
    const __m256i middle = _mm256_set1_epi8((char)128);
    uint8_t bytes[64];  // rows 0 1 4 5 2 3 6 7
    _mm256_storeu_si256((__m256i *)bytes, _mm256_add_epi8(_mm256_packs_epi16(rows.r04, rows.r15), middle));
    _mm256_storeu_si256((__m256i *)(bytes + 32), _mm256_add_epi8(_mm256_packs_epi16(rows.r26, rows.r37), middle));
    static const uint8_t places[8] = {0, 1, 4, 5, 2, 3, 6, 7};
    for (int i = 0; i < 8; i++) memcpy(samples + i * stride, bytes + 8 * places[i], 8);
}

// The same where all coefficients but the first are zero.
static inline void idct_of_mean(int16_t mean, uint8_t *samples, ptrdiff_t stride) {
    int sample = ((mean * 4 + 16) >> 5) + 128;
    sample = sample < 0 ? 0 : sample > 255 ? 255 : sample;
    for (int i = 0; i < 8; i++) memset(samples + i * stride, sample, 8);
}
