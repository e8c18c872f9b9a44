// Blends of an image with a grey level, its grey image or its smoothed image, in floats as Pillow's Image.blend, and what
// is counted for them.

#pragma once
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

static inline uint8_t blended(int other, int own, float factor) {
    float value = (float)other + factor * (float)(own - other);
    value = value > 0 ? value : 0;
    return (uint8_t)(int)(value < 255 ? value : 255);
}

static void blend_with_level(const uint8_t *in, size_t size, int level, float factor, uint8_t *out) {
    for (size_t i = 0; i < size; i++) out[i] = blended(level, in[i], factor);
}

// ITU-R 601-2, as Pillow's conversion to L.
static inline int grey(const uint8_t *pixel) {
    return (pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16;
}

typedef struct {
    __m256i channels[3], grey;
} Eight;

// Eight pixels of 28 readable bytes.
static inline Eight load_eight(const uint8_t *in) {
    const __m256i spread = _mm256_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1,  //
                                            0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
    __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)in)),
                                           _mm_loadu_si128((const __m128i *)(in + 12)), 1);
    __m256i rgb = _mm256_shuffle_epi8(both, spread), byte = _mm256_set1_epi32(255);
    Eight p;
    for (int c = 0; c < 3; c++) p.channels[c] = _mm256_and_si256(_mm256_srli_epi32(rgb, 8 * c), byte);
    __m256i sum = _mm256_set1_epi32(0x8000);
    const int weights[3] = {19595, 38470, 7471};
    for (int c = 0; c < 3; c++)
        sum = _mm256_add_epi32(sum, _mm256_mullo_epi32(p.channels[c], _mm256_set1_epi32(weights[c])));
    p.grey = _mm256_srli_epi32(sum, 16);
    return p;
}

static void blend_with_grey(const uint8_t *in, int height, int width, float factor, uint8_t *out) {
    size_t size = 3 * (size_t)height * (size_t)width;
    const __m256i narrow = _mm256_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1,  //
                                            0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    size_t i = 0;
    for (; i + 28 <= size; i += 24) {
        Eight p = load_eight(in + i);
        __m256i rgb = _mm256_setzero_si256();
        __m256 base = _mm256_cvtepi32_ps(p.grey);
        for (int c = 0; c < 3; c++) {
            __m256 step = _mm256_cvtepi32_ps(_mm256_sub_epi32(p.channels[c], p.grey));
            __m256 value = _mm256_add_ps(base, _mm256_mul_ps(_mm256_set1_ps(factor), step));
            value = _mm256_min_ps(_mm256_set1_ps(255), _mm256_max_ps(_mm256_setzero_ps(), value));
            rgb = _mm256_or_si256(rgb, _mm256_slli_epi32(_mm256_cvttps_epi32(value), 8 * c));
        }
        rgb = _mm256_shuffle_epi8(rgb, narrow);
        _mm_storeu_si128((__m128i *)(out + i), _mm256_castsi256_si128(rgb));
        _mm_storeu_si128((__m128i *)(out + i + 12), _mm256_extracti128_si256(rgb, 1));
    }
    for (; i < size; i += 3)
        for (int c = 0; c < 3; c++) out[i + c] = blended(grey(in + i), in[i + c], factor);
}

static uint64_t sum_of_grey(const uint8_t *in, size_t size) {
    uint64_t total = 0;
    size_t i = 0;
    __m256i sums = _mm256_setzero_si256();
    for (; i + 28 <= size; i += 24) {
        // Pairs of numbers below 2^8, as 64 bits.
        sums = _mm256_add_epi64(sums, _mm256_sad_epu8(load_eight(in + i).grey, _mm256_setzero_si256()));
    }
    uint64_t parts[4];
    memcpy(parts, &sums, sizeof parts);
    for (int k = 0; k < 4; k++) total += parts[k];
    for (; i < size; i += 3) total += grey(in + i);
    return total;
}

// Blend with Pillow's ImageFilter.SMOOTH: weight 5 in the middle, 1 around it, of 13; the border is not smoothed.
static void blend_with_smooth(const uint8_t *in, int height, int width, float factor, uint8_t *out) {
    size_t row = 3 * (size_t)width;
    memcpy(out, in, row * height);
    for (int y = 1; y < height - 1; y++) {
        const uint8_t *above = in + row * (y - 1), *here = above + row, *below = here + row;
        uint8_t *to = out + row * y;
        for (size_t i = 3; i + 3 < row; i++) {
            int sum = above[i - 3] + above[i] + above[i + 3] + here[i - 3] + 5 * here[i] + here[i + 3] +  //
                      below[i - 3] + below[i] + below[i + 3];
            // Half up: (2 sum + 13) / 26, which a product gives exactly for all sums of 13 bytes.
            to[i] = blended((int)((uint32_t)(2 * sum + 13) * 20165u >> 19), here[i], factor);
        }
    }
}

static void count_levels(const uint8_t *in, size_t size, uint32_t counts[3][256]) {
    uint32_t others[3][256] = {{0}};  // of every second pixel: equal neighbours do not wait for each other
    memset(counts, 0, sizeof others);
    size_t i = 0;
    for (; i + 6 <= size; i += 6)
        for (int c = 0; c < 3; c++) counts[c][in[i + c]]++, others[c][in[i + 3 + c]]++;
    for (; i < size; i += 3)
        for (int c = 0; c < 3; c++) counts[c][in[i + c]]++;
    for (int c = 0; c < 3; c++)
        for (int level = 0; level < 256; level++) counts[c][level] += others[c][level];
}

static void replace_levels(const uint8_t *in, size_t size, const uint8_t *tables, uint8_t *out) {
    for (size_t i = 0; i < size; i += 3)
        for (int c = 0; c < 3; c++) out[i + c] = tables[256 * c + in[i + c]];
}
