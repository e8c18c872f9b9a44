// Affine transforms with Pillow's bicubic filter: the same sums of doubles in the same order, the channels of a pixel
// side by side in one register. Where the filter works along one axis only, the other is left out: it would give the
// same numbers. https://github.com/python-pillow/Pillow, src/libImaging/Geometry.c

#pragma once
#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BORDER 2  // pixels that the filter reaches beyond the image

// The image as R, G, B, 0 with its border repeated BORDER times on each side; NULL without memory.
static uint8_t *with_border(const uint8_t *pixels, int height, int width) {
    size_t row = 4 * ((size_t)width + 2 * BORDER);
    uint8_t *padded = malloc(row * ((size_t)height + 2 * BORDER));
    if (!padded) return NULL;
    const __m128i spread = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
    for (int y = 0; y < height; y++) {
        const uint8_t *in = pixels + 3 * (size_t)width * y;
        uint8_t *out = padded + row * (y + BORDER) + 4 * BORDER;
        int x = 0;
        for (; x + 6 <= width; x += 4)
            _mm_storeu_si128((__m128i *)(out + 4 * x),
                             _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(in + 3 * x)), spread));
        for (; x < width; x++) {
            memcpy(out + 4 * x, in + 3 * x, 3);
            out[4 * x + 3] = 0;
        }
        for (int i = 1; i <= BORDER; i++) {
            memcpy(out - 4 * i, out, 4);
            memcpy(out + 4 * (width - 1 + i), out + 4 * (width - 1), 4);
        }
    }
    for (int i = 0; i < BORDER; i++) {
        memcpy(padded + row * i, padded + row * BORDER, row);
        memcpy(padded + row * (height + BORDER + i), padded + row * (height + BORDER - 1), row);
    }
    return padded;
}

static inline __m256d to_doubles(__m128i shorts) { return _mm256_cvtepi32_pd(_mm_cvtepi16_epi32(shorts)); }

static inline __m256d horner(__m256d p1, __m256d p2, __m256d p3, __m256d p4, __m256d d) {
    __m256d inner = _mm256_add_pd(p3, _mm256_mul_pd(d, p4));
    return _mm256_add_pd(p1, _mm256_mul_pd(d, _mm256_add_pd(p2, _mm256_mul_pd(d, inner))));
}

// The cubic through four pixels at d between the second and the third. Its coefficients are whole numbers.
static inline __m256d cubic_of_pixels(__m128i four, __m256d d) {
    __m128i first = _mm_cvtepu8_epi16(four), last = _mm_unpackhi_epi8(four, _mm_setzero_si128());
    __m128i even = _mm_unpackhi_epi64(first, last);                        // 2, 4
    __m128i steps = _mm_sub_epi16(even, _mm_unpacklo_epi64(first, last));  // 2 - 1, 4 - 3
    __m128i p4 = _mm_add_epi16(steps, _mm_srli_si128(steps, 8));
    __m128i p3 = _mm_sub_epi16(_mm_setzero_si128(), _mm_add_epi16(p4, steps));
    return horner(to_doubles(even), to_doubles(_mm_sub_epi16(last, first)), to_doubles(p3), to_doubles(p4), d);
}

static inline __m256d cubic(__m256d v1, __m256d v2, __m256d v3, __m256d v4, __m256d d) {
    __m256d p2 = _mm256_sub_pd(v3, v1);
    __m256d p3 = _mm256_sub_pd(v1, v2);
    p3 = _mm256_sub_pd(_mm256_add_pd(_mm256_add_pd(p3, p3), v3), v4);
    __m256d p4 = _mm256_add_pd(_mm256_sub_pd(_mm256_sub_pd(v2, v1), v3), v4);
    return horner(v2, p2, p3, p4, d);
}

static inline __m128i load(const uint8_t *pixels) { return _mm_loadu_si128((const __m128i *)pixels); }

// Clipped to 0..255 and cut off to whole numbers: R, G, B and a byte that does not matter.
static inline int32_t to_bytes(__m256d pixel) {
    pixel = _mm256_max_pd(_mm256_setzero_pd(), _mm256_min_pd(_mm256_set1_pd(255), pixel));
    return _mm_cvtsi128_si32(_mm_shuffle_epi8(_mm256_cvttpd_epi32(pixel), _mm_set1_epi32(0x0c080400)));
}

typedef enum { ALONG_X, ALONG_Y, BOTH } Axes;

static inline __m256d filter(const uint8_t *corner, size_t row, double dx, double dy, Axes axes) {
    if (axes == ALONG_X) return cubic_of_pixels(load(corner + row), _mm256_set1_pd(dx));
    if (axes == ALONG_Y) {
        int32_t column[4];
        for (int i = 0; i < 4; i++) memcpy(column + i, corner + row * i + 4, 4);
        return cubic_of_pixels(_mm_setr_epi32(column[0], column[1], column[2], column[3]), _mm256_set1_pd(dy));
    }
    __m256d d = _mm256_set1_pd(dx);
    return cubic(cubic_of_pixels(load(corner), d), cubic_of_pixels(load(corner + row), d),
                 cubic_of_pixels(load(corner + 2 * row), d), cubic_of_pixels(load(corner + 3 * row), d),
                 _mm256_set1_pd(dy));
}

static inline void transform_along(const uint8_t *padded, int height, int width, const double *m, int32_t fill,
                                   uint8_t *out, Axes axes) {
    size_t row = 4 * ((size_t)width + 2 * BORDER);
    uint8_t *last = out + 3 * ((size_t)height * width - 1);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++, out += 3) {
            double from_x = m[0] * (x + 0.5) + m[1] * (y + 0.5) + m[2];
            double from_y = m[3] * (x + 0.5) + m[4] * (y + 0.5) + m[5];
            int32_t pixel = fill;
            // Also false for NaN.
            if (from_x >= 0 && from_x < width && from_y >= 0 && from_y < height) {
                from_x -= 0.5, from_y -= 0.5;
                int left = (int)floor(from_x), top = (int)floor(from_y);
                const uint8_t *corner = padded + row * (top - 1 + BORDER) + 4 * (left - 1 + BORDER);
                pixel = to_bytes(filter(corner, row, from_x - left, from_y - top, axes));
            }
            // The fourth byte is the next pixel's, which comes after it.
            memcpy(out, &pixel, out == last ? 3 : 4);
        }
}

// Each pixel (x, y) of `out` from (m0 x + m1 y + m2, m3 x + m4 y + m5), else `fill`; false without memory.
static bool transform(const uint8_t *pixels, int height, int width, const double *m, int32_t fill, uint8_t *out) {
    uint8_t *padded = with_border(pixels, height, width);
    if (!padded) return false;
    if (m[3] == 0 && m[4] == 1 && m[5] == 0)
        transform_along(padded, height, width, m, fill, out, ALONG_X);
    else if (m[0] == 1 && m[1] == 0 && m[2] == 0)
        transform_along(padded, height, width, m, fill, out, ALONG_Y);
    else
        transform_along(padded, height, width, m, fill, out, BOTH);
    free(padded);
    return true;
}
