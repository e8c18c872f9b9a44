// One box of a JPEG: blocks beside it are passed over, what lies below is not read. Pixels are libjpeg-turbo's, to the
// last bit. For x86 with AVX2 and BMI2.

#pragma once

#include "colour.h"
#include "entropy.h"
#include "header.h"
#include "idct.h"

// Chroma of two samples is not interpolated by libjpeg; images so small are not worth the bother.
enum { LEAST_SIDE = 8 };

typedef struct {
    int top, left, height, width;
} Box;

typedef struct {
    Header header;
    int unit_height, unit_width;                   // of a minimum coded unit, pixels
    int first_row, end_row, first_unit, end_unit;  // units that are wanted
    Plane planes[3];
    Table dc[4], ac[4];
    int16_t *sums;
    uint8_t *doubled[2];
} Work;

static inline int divided_up(int value, int by) { return (value + by - 1) / by; }

// Which units a box needs; where chroma is halved, also those of its neighbours.
static void plan(Work *work, Box box) {
    const Header *header = &work->header;
    int across = header->components[0].across, down = header->components[0].down;
    int left = across > 1 ? 2 : 0, above = down > 1 ? 2 : 0;
    work->unit_width = 8 * across;
    work->unit_height = 8 * down;
    work->first_row = clamped(box.top - above, header->height) / work->unit_height;
    work->end_row = clamped(box.top + box.height - 1 + above, header->height) / work->unit_height + 1;
    work->first_unit = clamped(box.left - left, header->width) / work->unit_width;
    work->end_unit = clamped(box.left + box.width - 1 + left, header->width) / work->unit_width + 1;
    for (int i = 0; i < header->num_components; i++) {
        const Component *c = &header->components[i];
        Plane *plane = &work->planes[i];
        plane->top = 8 * c->down * work->first_row;
        plane->left = 8 * c->across * work->first_unit;
        plane->stride = 8 * c->across * (work->end_unit - work->first_unit);
        plane->height = divided_up(header->height * c->down, down);
        plane->width = divided_up(header->width * c->across, across);
    }
}

static bool make_tables(Work *work) {
    const Header *header = &work->header;
    for (int i = 0; i < header->num_components; i++) {
        int dc = header->components[i].dc, ac = header->components[i].ac;
        if (!work->dc[dc].symbols && !make_table(&work->dc[dc], header->dc[dc], true)) return false;
        if (!work->ac[ac].symbols && !make_table(&work->ac[ac], header->ac[ac], false)) return false;
    }
    return true;
}

// Memory for planes and rows; one block, to be freed.
static uint8_t *give_memory(Work *work, int width) {
    size_t sizes[3] = {0}, row = (size_t)width + 4 + SLACK, total = 4 * row;
    for (int i = 0; i < work->header.num_components; i++) {
        int rows = 8 * work->header.components[i].down * (work->end_row - work->first_row);
        sizes[i] = (size_t)rows * (size_t)work->planes[i].stride + SLACK;
        total += sizes[i];
    }
    uint8_t *memory = malloc(total), *at = memory;
    if (!memory) return NULL;
    work->sums = (int16_t *)at;
    work->doubled[0] = at + 2 * row;
    work->doubled[1] = at + 3 * row;
    at += 4 * row;
    for (int i = 0; i < 3; at += sizes[i++]) work->planes[i].samples = at;
    return memory;
}

static bool read_unit(Work *work, Bits *bits, int *means, int row, int unit) {
    for (int i = 0; i < work->header.num_components; i++) {
        const Component *c = &work->header.components[i];
        const Plane *plane = &work->planes[i];
        const uint8_t *quantizer = work->header.quantizers[c->quantizer];
        for (int block = 0; block < c->across * c->down; block++) {
            int16_t coefficients[64] = {0};
            int last = read_block(bits, &work->dc[c->dc], &work->ac[c->ac], quantizer, &means[i], coefficients);
            if (last < 0) return false;
            ptrdiff_t top = 8 * ((row - work->first_row) * c->down + block / c->across);
            ptrdiff_t left = 8 * ((unit - work->first_unit) * c->across + block % c->across);
            uint8_t *samples = plane->samples + top * plane->stride + left;
            if (last) idct(coefficients, samples, plane->stride);
            else idct_of_mean(coefficients[0], samples, plane->stride);
        }
    }
    return true;
}

static bool pass_unit(const Work *work, Bits *bits, int *means) {
    for (int i = 0; i < work->header.num_components; i++) {
        const Component *c = &work->header.components[i];
        for (int block = 0; block < c->across * c->down; block++)
            if (!pass_block(bits, &work->dc[c->dc], &work->ac[c->ac], &means[i])) return false;
    }
    return true;
}

// All units up to the last one that is wanted; false where the data is damaged or ends before.
static bool read_units(Work *work, const uint8_t *scan, size_t size) {
    int units = divided_up(work->header.width, work->unit_width);
    int rows = divided_up(work->header.height, work->unit_height);
    Bits bits = {.at = scan, .end = scan + size};
    int means[3] = {0};
    for (int row = 0; row < work->end_row; row++)
        for (int unit = 0; unit < units; unit++) {
            bool wanted = row >= work->first_row && unit >= work->first_unit && unit < work->end_unit;
            if (!(wanted ? read_unit(work, &bits, means, row, unit) : pass_unit(work, &bits, means))) return false;
            if (bits.at - bits.num / 8 > bits.end) return false;
            if (row == work->end_row - 1 && unit == work->end_unit - 1 && row < rows - 1) return true;
        }
    // Behind an image's last unit there is nothing but the rest of a byte.
    return bits.at - bits.num / 8 == bits.end;
}

static void write_pixels(const Work *work, Box box, uint8_t *rgb) {
    const Plane *planes = work->planes;
    bool halved = work->unit_width > 8, both_ways = work->unit_height > 8;
    for (int row = box.top; row < box.top + box.height; row++, rgb += 3 * (ptrdiff_t)box.width) {
        const uint8_t *y = row_of(&planes[0], row) + box.left, *chroma[2];
        if (work->header.num_components == 1) {
            grey_to_rgb(y, rgb, box.width);
            continue;
        }
        for (int i = 0; i < 2; i++)
            chroma[i] = halved ? upsampled(&planes[i + 1], row, both_ways, box.left, box.width, work->sums,
                                           work->doubled[i])
                               : row_of(&planes[i + 1], row) + box.left;
        to_rgb(y, chroma[0], chroma[1], rgb, box.width);
    }
}

static bool read_pixels(Work *work, Box box, uint8_t *rgb) {
    size_t size;
    plan(work, box);
    uint8_t *memory = give_memory(work, box.width);
    uint8_t *scan = without_escapes(work->header.scan, work->header.end, &size);
    bool good = memory && scan && make_tables(work) && read_units(work, scan, size);
    if (good) write_pixels(work, box, rgb);
    free(scan);
    free(memory);
    return good;
}

static bool is_inside(Box box, int height, int width) {
    return height <= MAX_SIDE && width <= MAX_SIDE && box.top >= 0 && box.left >= 0 && box.height > 0 &&
           box.width > 0 && box.height <= height - box.top && box.width <= width - box.left;
}

// Writes a box's pixels to `rgb`, which has room for them. False where the image is of another kind or size or damaged;
// then some may have been written.
static bool read_box(const uint8_t *data, size_t size, int height, int width, Box box, uint8_t *rgb) {
    Work *work = calloc(1, sizeof *work);
    if (!work) return false;
    const Header *header = &work->header;
    bool good = read_header(&work->header, data, size) && header->height == height && header->width == width &&
                height >= LEAST_SIDE && width >= LEAST_SIDE && is_inside(box, height, width) &&
                read_pixels(work, box, rgb);
    free(work);
    return good;
}
