// What comes before a JPEG's pixels (ITU-T T.81, annex B): the frame, its tables, and where the scan begins.
//
// Only the ordinary kind is taken: sequential, Huffman-coded, 8 bits a sample, one scan without restart markers, grey or
// YCbCr with chroma at 4:4:4, 4:2:2 or 4:2:0. Everything else is somebody else's; nothing is mended or guessed.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { MAX_SIDE = 65500 };

typedef struct {
    const uint8_t *counts;   // [16] codes of 1 to 16 bits
    const uint8_t *symbols;  // in the codes' order
} Codes;

typedef struct {
    uint8_t id, across, down;  // blocks in a minimum coded unit
    uint8_t quantizer, dc, ac;
} Component;

typedef struct {
    int height, width, num_components;
    Component components[3];
    const uint8_t *quantizers[4];  // [64] in zigzag order
    Codes dc[4], ac[4];
    const uint8_t *scan, *end;
} Header;

static bool read_quantizers(Header *header, const uint8_t *at, const uint8_t *end) {
    for (; end - at >= 65; at += 65) {
        if (at[0] > 3) return false;  // high nibble: 16 bits a number
        header->quantizers[at[0]] = at + 1;
    }
    return at == end;
}

static bool read_codes(Header *header, const uint8_t *at, const uint8_t *end) {
    while (end - at >= 17) {
        int num = 0;
        for (int i = 1; i <= 16; i++) num += at[i];
        if ((at[0] & 0xEF) > 3 || num > 256 || end - at < 17 + num) return false;
        Codes codes = {at + 1, at + 17};
        if (at[0] >> 4) header->ac[at[0] & 3] = codes;
        else header->dc[at[0]] = codes;
        at += 17 + num;
    }
    return at == end;
}

static bool read_frame(Header *header, const uint8_t *at, const uint8_t *end) {
    if (header->num_components || end - at < 6 || at[0] != 8) return false;
    header->height = at[1] << 8 | at[2];
    header->width = at[3] << 8 | at[4];
    int num = at[5];
    if ((num != 1 && num != 3) || end - at != 6 + 3 * num) return false;
    if (!header->height || !header->width || header->height > MAX_SIDE || header->width > MAX_SIDE) return false;
    for (int i = 0; i < num; i++) {
        const uint8_t *each = at + 6 + 3 * i;
        header->components[i] = (Component){.id = each[0], .across = each[1] >> 4, .down = each[1] & 15,
                                            .quantizer = each[2]};
        if (each[2] > 3) return false;
    }
    const Component *c = header->components;
    if (c[0].across < 1 || c[0].across > 2 || c[0].down < 1 || c[0].down > c[0].across) return false;
    if (num == 1 ? c[0].across != 1 : c[1].across * c[1].down * c[2].across * c[2].down != 1) return false;
    if (num == 3 && c[0].id == 'R' && c[1].id == 'G' && c[2].id == 'B') return false;
    header->num_components = num;
    return true;
}

static bool read_scan(Header *header, const uint8_t *at, const uint8_t *end) {
    int num = header->num_components;
    if (!num || end - at != 4 + 2 * num || at[0] != num) return false;
    for (int i = 0; i < num; i++) {
        Component *c = &header->components[i];
        uint8_t dc = at[2 + 2 * i] >> 4, ac = at[2 + 2 * i] & 15;
        if (at[1 + 2 * i] != c->id || dc > 3 || ac > 3) return false;
        if (!header->dc[dc].counts || !header->ac[ac].counts || !header->quantizers[c->quantizer]) return false;
        c->dc = dc;
        c->ac = ac;
    }
    at += 1 + 2 * num;
    return at[0] == 0 && at[1] == 63 && at[2] == 0;  // the whole spectrum at once
}

// Whether an Adobe segment says something other than YCbCr.
static bool other_colours(const uint8_t *at, const uint8_t *end) {
    return end - at >= 12 && !memcmp(at, "Adobe", 5) && at[11] != 1;
}

static bool read_header(Header *header, const uint8_t *data, size_t size) {
    const uint8_t *at = data, *end = data + size;
    *header = (Header){.end = end};
    if (size < 4 || at[0] != 0xFF || at[1] != 0xD8) return false;
    at += 2;
    while (end - at >= 4 && at[0] == 0xFF) {
        int marker = at[1], length = at[2] << 8 | at[3];
        if (length < 2 || end - at < 2 + length) return false;
        const uint8_t *from = at + 4, *to = at + 2 + length;
        bool good;
        if (marker == 0xDB) good = read_quantizers(header, from, to);
        else if (marker == 0xC4) good = read_codes(header, from, to);
        else if (marker == 0xC0 || marker == 0xC1) good = read_frame(header, from, to);
        else if (marker == 0xDA) {
            header->scan = to;
            return read_scan(header, from, to);
        }
        else if (marker == 0xEE) good = !other_colours(from, to);
        else good = (marker >= 0xE0 && marker <= 0xEF) || marker == 0xFE;
        if (!good) return false;
        at = to;
    }
    return false;
}
