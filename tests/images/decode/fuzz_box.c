// Decodes boxes of images that it damages: fuzz ROUNDS FILE...; prints how many were taken and how many left.

#include <stdio.h>

#include "box.h"

static uint64_t state = 88172645463325252u;

static uint32_t below(uint32_t end) {  // xorshift64
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16) % end;
}

static size_t damage(uint8_t *data, size_t size) {
    static const uint8_t telling[] = {0, 1, 0x0B, 0x10, 0x7F, 0x80, 0xC0, 0xC4, 0xD9, 0xDA, 0xDB, 0xF0, 0xFF};
    uint32_t header = below(2) ? 640 : (uint32_t)size;
    for (uint32_t num = below(4); num > 0; num--) {
        uint8_t *at = data + below(header < size ? header : (uint32_t)size);
        *at = below(2) ? telling[below(sizeof telling)] : (uint8_t)below(256);
    }
    return below(8) ? size : below((uint32_t)size) + 1;
}

int main(int argc, char **argv) {
    static uint8_t original[1 << 20];
    int counts[2] = {0};
    for (int file = 2; file < argc; file++) {
        FILE *in = fopen(argv[file], "rb");
        size_t size = in ? fread(original, 1, sizeof original, in) : 0;
        if (!size) return 1;
        fclose(in);
        for (int round = 0; round < atoi(argv[1]); round++) {
            // Memory of its own for each, so that a byte too many is seen.
            uint8_t *data = malloc(size);
            memcpy(data, original, size);
            size_t kept = damage(data, size);
            uint8_t *exact = malloc(kept);
            memcpy(exact, data, kept);
            // The size that the caller was told is mostly what the header says.
            Header header;
            bool known = read_header(&header, exact, kept) && below(8);
            int height = known ? header.height : 61, width = known ? header.width : 83;
            if (height > 300) height = 300;
            if (width > 300) width = 300;
            Box box = {.top = (int)below((uint32_t)height), .left = (int)below((uint32_t)width)};
            box.height = 1 + (int)below((uint32_t)(height - box.top));
            box.width = 1 + (int)below((uint32_t)(width - box.left));
            uint8_t *rgb = malloc((size_t)(3 * box.height * box.width));
            counts[!read_box(exact, kept, height, width, box, rgb)]++;
            free(rgb);
            free(exact);
            free(data);
        }
    }
    printf("%d %d\n", counts[0], counts[1]);
    return 0;
}
