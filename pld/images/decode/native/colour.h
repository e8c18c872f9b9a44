// From planes of samples to RGB, as libjpeg-turbo does it: chroma interpolated by triangles ("fancy upsampling"), then
// BT.601 in 16-bit fixed point.

#pragma once

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

// Behind a row there are so many bytes that may be read.
enum { SLACK = 16 };

typedef struct {
    uint8_t *samples;
    ptrdiff_t stride;
    int top, left;      // of what was decoded, in the component's own samples
    int height, width;  // of the whole component: interpolation stops there
} Plane;

static inline int clamped(int value, int end) { return value < 0 ? 0 : value < end ? value : end - 1; }

static inline const uint8_t *row_of(const Plane *plane, int row) {
    return plane->samples + (clamped(row, plane->height) - plane->top) * plane->stride - plane->left;
}

// Samples `left` to `left + width` of an image's row, from a component of half its width and, if `both_ways`, height.
// There is room for half of width + 4 in `sums`, for width + 4 in `doubled`.
static const uint8_t *upsampled(const Plane *plane, int row, bool both_ways, int left, int width,
                                int16_t *restrict sums, uint8_t *restrict doubled) {
    int first = left / 2, num = (left + width + 1) / 2 - first;
    int other = !both_ways ? row : row % 2 ? row / 2 + 1 : row / 2 - 1;
    const uint8_t *near = row_of(plane, both_ways ? row / 2 : row), *far = row_of(plane, other);
    int before = clamped(first - 1, plane->width), after = clamped(first + num, plane->width);
    sums[0] = (int16_t)(3 * near[before] + far[before]);
    for (int i = 0; i < num; i++) sums[i + 1] = (int16_t)(3 * near[first + i] + far[first + i]);
    sums[num + 1] = (int16_t)(3 * near[after] + far[after]);
    // A sum is four times a sample; from one row alone libjpeg rounds in quarters, not in sixteenths.
    int half_left = both_ways ? 8 : 4, half_right = both_ways ? 7 : 8;
    for (int i = 0; i < num; i++) {
        doubled[2 * i] = (uint8_t)((3 * sums[i + 1] + sums[i] + half_left) >> 4);
        doubled[2 * i + 1] = (uint8_t)((3 * sums[i + 1] + sums[i + 2] + half_right) >> 4);
    }
    return doubled + left % 2;
}

// x * factor / 2^16, rounded, in 16 bits.
static inline __m256i scaled(__m256i x, int16_t factor) {
    __m256i product = _mm256_mulhi_epi16(_mm256_add_epi16(x, x), _mm256_set1_epi16(factor));
    return _mm256_srai_epi16(_mm256_add_epi16(product, _mm256_set1_epi16(1)), 1);
}

static inline __m256i widened(const uint8_t *samples) {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)samples));
}

static inline __m128i in_bytes(__m256i x) {
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi16(x, x), 0xD8));
}

// 16 bytes of RGB; `places` has for each colour where its pixels go, -1 where another colour does.
static inline __m128i interleaved(__m128i r, __m128i g, __m128i b, const int8_t places[3][16]) {
#define PLACED(x, i) _mm_shuffle_epi8(x, _mm_loadu_si128((const __m128i *)places[i]))
    return _mm_or_si128(PLACED(r, 0), _mm_or_si128(PLACED(g, 1), PLACED(b, 2)));
#undef PLACED
}

// 16 pixels. Of the factors 1.402, -0.34414, -0.71414 and 1.772 the whole numbers are taken out first.
static inline void to_rgb_16(const uint8_t *y_samples, const uint8_t *cb_samples, const uint8_t *cr_samples,
                             uint8_t *rgb) {
    static const int8_t places[3][3][16] = {{{0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1, 5},
                                             {-1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1},
                                             {-1, -1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1}},
                                            {{-1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10, -1},
                                             {5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10},
                                             {-1, 5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1}},
                                            {{-1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1, -1},
                                             {-1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1},
                                             {10, -1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15}}};
    const __m256i middle = _mm256_set1_epi16(128), half = _mm256_set1_epi32(1 << 15);
    __m256i y = widened(y_samples);
    __m256i cb = _mm256_sub_epi16(widened(cb_samples), middle), cr = _mm256_sub_epi16(widened(cr_samples), middle);
    __m256i red = _mm256_add_epi16(cr, scaled(cr, 91881 - 65536));
    __m256i blue = _mm256_add_epi16(_mm256_add_epi16(cb, cb), scaled(cb, 116130 - 2 * 65536));
    const __m256i factors = _mm256_set1_epi32((65536 - 46802) << 16 | (uint16_t)-22554);
    __m256i low = _mm256_madd_epi16(_mm256_unpacklo_epi16(cb, cr), factors);
    __m256i high = _mm256_madd_epi16(_mm256_unpackhi_epi16(cb, cr), factors);
    low = _mm256_srai_epi32(_mm256_add_epi32(low, half), 16);
    high = _mm256_srai_epi32(_mm256_add_epi32(high, half), 16);
    __m256i green = _mm256_sub_epi16(_mm256_packs_epi32(low, high), cr);

    __m128i r = in_bytes(_mm256_add_epi16(y, red)), g = in_bytes(_mm256_add_epi16(y, green));
    __m128i b = in_bytes(_mm256_add_epi16(y, blue));
    for (int i = 0; i < 3; i++) _mm_storeu_si128((__m128i *)(rgb + 16 * i), interleaved(r, g, b, places[i]));
}

static void to_rgb(const uint8_t *y, const uint8_t *cb, const uint8_t *cr, uint8_t *rgb, int width) {
    int i = 0;
    for (; i + 16 <= width; i += 16) to_rgb_16(y + i, cb + i, cr + i, rgb + 3 * i);
    if (i == width) return;
    uint8_t rest[48];
    to_rgb_16(y + i, cb + i, cr + i, rest);
    memcpy(rgb + 3 * i, rest, 3 * (size_t)(width - i));
}

static void grey_to_rgb(const uint8_t *restrict y, uint8_t *restrict rgb, int width) {
    for (int i = 0; i < width; i++) rgb[3 * i] = rgb[3 * i + 1] = rgb[3 * i + 2] = y[i];
}
