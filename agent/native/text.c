#include "text.h"

#include <stdint.h>

#define BLOCK 4096
#define LONGEST 6 /* bytes that one byte may become: \u001f */
#define EACH_BYTE(value) (UINT64_C(0x0101010101010101) * (value))

/* Whether none of eight bytes needs a look: no quote, backslash, control or part of a longer
 * character. A byte behind one that does may be taken for another one; that costs a look. */
static inline bool
are_plain(uint64_t eight)
{
    uint64_t quotes = eight ^ EACH_BYTE('"');
    uint64_t backslashes = eight ^ EACH_BYTE('\\');
    uint64_t found = (quotes - EACH_BYTE(1)) | (backslashes - EACH_BYTE(1)) | (eight - EACH_BYTE(0x20));
    return ((found | eight) & EACH_BYTE(0x80)) == 0;
}

/* Bytes of the character at `at`, which is not ASCII: RFC 3629, section 4. 0: it is none. */
static size_t
character_bytes(const unsigned char *at, size_t left)
{
    unsigned char first = at[0];
    unsigned char low = 0x80, high = 0xbf;
    size_t length;
    if (first >= 0xc2 && first <= 0xdf)
        length = 2;
    else if (first >= 0xe0 && first <= 0xef)
        length = 3;
    else if (first >= 0xf0 && first <= 0xf4)
        length = 4;
    else
        return 0;
    if (first == 0xe0)
        low = 0xa0;
    else if (first == 0xed)
        high = 0x9f;
    else if (first == 0xf0)
        low = 0x90;
    else if (first == 0xf4)
        high = 0x8f;
    if (left < length || at[1] < low || at[1] > high)
        return 0;
    for (size_t index = 2; index < length; index++)
        if (at[index] < 0x80 || at[index] > 0xbf)
            return 0;
    return length;
}

static unsigned char *
write_escaped(unsigned char *to, unsigned char byte)
{
    static const char digits[] = "0123456789abcdef";
    *to++ = '\\';
    switch (byte) {
    case '"':
    case '\\':
        *to++ = byte;
        return to;
    case '\b':
        *to++ = 'b';
        return to;
    case '\t':
        *to++ = 't';
        return to;
    case '\n':
        *to++ = 'n';
        return to;
    case '\f':
        *to++ = 'f';
        return to;
    case '\r':
        *to++ = 'r';
        return to;
    default:
        memcpy(to, "u00", 3);
        to[3] = (unsigned char)digits[byte >> 4];
        to[4] = (unsigned char)digits[byte & 15];
        return to + 5;
    }
}

enum outcome
write_text(struct output *output, const unsigned char *bytes, size_t length)
{
    const unsigned char *at = bytes, *end = bytes + length;
    if (!output_room(output, length + 2))
        return NO_MEMORY;
    *output->end++ = '"';
    while (at < end) {
        size_t left = (size_t)(end - at);
        const unsigned char *stop = left < BLOCK ? end : at + BLOCK;
        /* A block may go on to the end of its last character. */
        if (!output_room(output, LONGEST * (size_t)(stop - at) + 2 * sizeof(uint64_t)))
            return NO_MEMORY;
        unsigned char *to = output->end;
        while (at < stop) {
            while (stop - at >= (ptrdiff_t)sizeof(uint64_t)) {
                uint64_t eight;
                memcpy(&eight, at, sizeof eight);
                if (!are_plain(eight))
                    break;
                memcpy(to, &eight, sizeof eight);
                at += sizeof eight;
                to += sizeof eight;
            }
            /* The rest of a block, or up to eight bytes with something among them. */
            for (int looks = 0; at < stop && looks < 8; looks++) {
                unsigned char byte = *at;
                if (byte >= 0x80) {
                    size_t count = character_bytes(at, (size_t)(end - at));
                    if (count == 0)
                        return UNUSUAL;
                    memcpy(to, at, count);
                    at += count;
                    to += count;
                } else {
                    if (byte < 0x20 || byte == '"' || byte == '\\')
                        to = write_escaped(to, byte);
                    else
                        *to++ = byte;
                    at++;
                }
            }
        }
        output->end = to;
    }
    if (!output_room(output, 1))
        return NO_MEMORY;
    *output->end++ = '"';
    return DONE;
}
