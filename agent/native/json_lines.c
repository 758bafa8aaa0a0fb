#include "json_lines.h"

#include <stdint.h>

#include "numbers.h"

#define MAX_LEVELS 32
#define EVENT_TIME_BYTES 8
#define BILLION 1000000000

/* First bytes of msgpack's values, by its specification. */
enum {
    FIXMAP = 0x80,
    FIXARRAY = 0x90,
    FIXSTR = 0xa0,
    NIL = 0xc0,
    FALSE = 0xc2,
    TRUE = 0xc3,
    BIN8 = 0xc4,
    BIN16 = 0xc5,
    BIN32 = 0xc6,
    EXT8 = 0xc7,
    FLOAT32 = 0xca,
    FLOAT64 = 0xcb,
    UINT8 = 0xcc,
    UINT16 = 0xcd,
    UINT32 = 0xce,
    UINT64 = 0xcf,
    INT8 = 0xd0,
    INT16 = 0xd1,
    INT32 = 0xd2,
    INT64 = 0xd3,
    FIXEXT8 = 0xd7,
    STR8 = 0xd9,
    STR16 = 0xda,
    STR32 = 0xdb,
    ARRAY16 = 0xdc,
    ARRAY32 = 0xdd,
    MAP16 = 0xde,
    MAP32 = 0xdf,
    NEGATIVE = 0xe0,
};

struct input {
    const unsigned char *at, *end;
};

static inline bool
has(const struct input *input, uint64_t count)
{
    return (uint64_t)(input->end - input->at) >= count;
}

/* A big-endian number; the caller knows that it is there. */
static inline uint64_t
take_number(struct input *input, int bytes)
{
    uint64_t number = 0;
    for (int index = 0; index < bytes; index++)
        number = number << 8 | *input->at++;
    return number;
}

/* The length behind a first byte that says how many bytes that takes. */
static inline bool
take_length(struct input *input, int bytes, uint64_t *length)
{
    if (!has(input, (uint64_t)bytes))
        return false;
    *length = take_number(input, bytes);
    return true;
}

/* A str or a bin: what peers declare texts as depends on their age. False: neither, or not whole. */
static inline bool
take_text(struct input *input, struct bytes *text)
{
    uint64_t length;
    if (!has(input, 1))
        return false;
    unsigned char first = *input->at++;
    if (first >= FIXSTR && first < NIL) {
        length = first & 0x1f;
    } else {
        int bytes;
        switch (first) {
        case STR8:
        case BIN8:
            bytes = 1;
            break;
        case STR16:
        case BIN16:
            bytes = 2;
            break;
        case STR32:
        case BIN32:
            bytes = 4;
            break;
        default:
            return false;
        }
        if (!take_length(input, bytes, &length))
            return false;
    }
    if (!has(input, length))
        return false;
    *text = (struct bytes){input->at, (size_t)length};
    input->at += length;
    return true;
}

static inline bool
are_same(struct bytes one, struct bytes other)
{
    return one.length == other.length && memcmp(one.at, other.at, one.length) == 0;
}

static inline bool
is_among(struct bytes key, const struct bytes *keys, size_t count)
{
    for (size_t index = 0; index < count; index++)
        if (are_same(key, keys[index]))
            return true;
    return false;
}

static inline bool
is_marked(struct bytes key)
{
    return key.length > 0 && key.at[0] == '$';
}

static bool
take_map_header(struct input *input, uint64_t *count)
{
    if (!has(input, 1))
        return false;
    unsigned char first = *input->at++;
    if (first >= FIXMAP && first < FIXARRAY) {
        *count = first & 0x0f;
        return true;
    }
    return (first == MAP16 && take_length(input, 2, count)) ||
           (first == MAP32 && take_length(input, 4, count));
}

static enum outcome write_value(struct output *output, struct input *input, int levels);

static enum outcome
write_map(struct output *output, struct input *input, uint64_t count, int levels)
{
    struct bytes keys[MAX_KEYS];
    if (count > MAX_KEYS || levels == 0)
        return UNUSUAL;
    if (!output_write(output, "{", 1))
        return NO_MEMORY;
    for (size_t index = 0; index < count; index++) {
        struct bytes *key = &keys[index];
        if (!take_text(input, key) || is_marked(*key) || is_among(*key, keys, index))
            return UNUSUAL;
        if (index && !output_write(output, ",", 1))
            return NO_MEMORY;
        enum outcome outcome = write_text(output, key->at, key->length);
        if (outcome != DONE)
            return outcome;
        if (!output_write(output, ":", 1))
            return NO_MEMORY;
        outcome = write_value(output, input, levels - 1);
        if (outcome != DONE)
            return outcome;
    }
    return output_write(output, "}", 1) ? DONE : NO_MEMORY;
}

static enum outcome
write_array(struct output *output, struct input *input, uint64_t count, int levels)
{
    if (levels == 0)
        return UNUSUAL;
    if (!output_write(output, "[", 1))
        return NO_MEMORY;
    for (uint64_t index = 0; index < count; index++) {
        if (index && !output_write(output, ",", 1))
            return NO_MEMORY;
        enum outcome outcome = write_value(output, input, levels - 1);
        if (outcome != DONE)
            return outcome;
    }
    return output_write(output, "]", 1) ? DONE : NO_MEMORY;
}

static enum outcome
write_float(struct output *output, struct input *input, int bytes)
{
    double value;
    uint64_t bits = take_number(input, bytes);
    if (bytes == (int)sizeof(float)) {
        uint32_t half = (uint32_t)bits;
        float narrow;
        memcpy(&narrow, &half, sizeof narrow);
        value = narrow;
    } else {
        memcpy(&value, &bits, sizeof value);
    }
    if (value - value != 0) /* infinite, or not a number */
        return UNUSUAL;
    output->end = write_double(output->end, value);
    return DONE;
}

static enum outcome
write_value(struct output *output, struct input *input, int levels)
{
    uint64_t length;
    if (!has(input, 1))
        return UNUSUAL;
    if (!output_room(output, NUMBER_BYTES))
        return NO_MEMORY;
    unsigned char first = *input->at;
    if ((first >= FIXSTR && first < NIL) || (first >= STR8 && first <= STR32) ||
        (first >= BIN8 && first <= BIN32)) {
        struct bytes text;
        return take_text(input, &text) ? write_text(output, text.at, text.length) : UNUSUAL;
    }
    input->at++;
    if (first < FIXMAP) {
        output->end = write_unsigned(output->end, first);
        return DONE;
    }
    if (first >= NEGATIVE) {
        output->end = write_signed(output->end, (int8_t)first);
        return DONE;
    }
    if (first < FIXARRAY)
        return write_map(output, input, first & 0x0f, levels);
    if (first < FIXSTR)
        return write_array(output, input, first & 0x0f, levels);
    switch (first) {
    case NIL:
        return output_write(output, "null", 4) ? DONE : NO_MEMORY;
    case FALSE:
        return output_write(output, "false", 5) ? DONE : NO_MEMORY;
    case TRUE:
        return output_write(output, "true", 4) ? DONE : NO_MEMORY;
    case FLOAT32:
    case FLOAT64: {
        int bytes = first == FLOAT32 ? 4 : 8;
        return has(input, (uint64_t)bytes) ? write_float(output, input, bytes) : UNUSUAL;
    }
    case UINT8:
    case UINT16:
    case UINT32:
    case UINT64: {
        int bytes = 1 << (first - UINT8);
        if (!has(input, (uint64_t)bytes))
            return UNUSUAL;
        output->end = write_unsigned(output->end, take_number(input, bytes));
        return DONE;
    }
    case INT8:
    case INT16:
    case INT32:
    case INT64: {
        int bytes = 1 << (first - INT8);
        int unused = 64 - 8 * bytes;
        if (!has(input, (uint64_t)bytes))
            return UNUSUAL;
        /* Moved up and down again, the sign fills what is above the number. */
        output->end = write_signed(
            output->end, (int64_t)(take_number(input, bytes) << unused) >> unused);
        return DONE;
    }
    case ARRAY16:
    case ARRAY32:
        if (!take_length(input, first == ARRAY16 ? 2 : 4, &length))
            return UNUSUAL;
        return write_array(output, input, length, levels);
    case MAP16:
    case MAP32:
        if (!take_length(input, first == MAP16 ? 2 : 4, &length))
            return UNUSUAL;
        return write_map(output, input, length, levels);
    default:
        return UNUSUAL;
    }
}

/* An EventTime, or whole seconds. */
static bool
take_time(struct input *input, int64_t *second, uint32_t *nanos)
{
    if (!has(input, 1))
        return false;
    unsigned char first = *input->at++;
    *nanos = 0;
    if (first < FIXMAP) {
        *second = first;
        return true;
    }
    if (first >= UINT8 && first <= UINT64) {
        int bytes = 1 << (first - UINT8);
        if (!has(input, (uint64_t)bytes))
            return false;
        uint64_t number = take_number(input, bytes);
        *second = (int64_t)number;
        return number < (uint64_t)TIME_LIMIT;
    }
    if (first == EXT8) {
        if (!has(input, 1) || *input->at++ != EVENT_TIME_BYTES)
            return false;
    } else if (first != FIXEXT8) {
        return false;
    }
    if (!has(input, 1 + EVENT_TIME_BYTES) || *input->at++ != 0)
        return false;
    *second = (int64_t)take_number(input, 4);
    *nanos = (uint32_t)take_number(input, 4);
    return *nanos < BILLION;
}

static enum outcome
write_record(struct output *output, struct line_format *format, struct input *input)
{
    uint64_t count;
    if (!take_map_header(input, &count) || count > MAX_KEYS)
        return UNUSUAL;
    /* Keys that are those of the record before, one by one, need no other look. */
    bool is_known = count == format->key_count;
    for (size_t index = 0; index < count; index++) {
        struct bytes key;
        if (!take_text(input, &key))
            return UNUSUAL;
        if (!is_known || !are_same(key, format->keys[index])) {
            if (is_marked(key) || is_among(key, format->own_keys, format->own_key_count) ||
                is_among(key, format->keys, index))
                return UNUSUAL;
            is_known = false;
            format->keys[index] = key;
        }
        if ((index || format->own_key_count) && !output_write(output, ",", 1))
            return NO_MEMORY;
        enum outcome outcome = write_text(output, key.at, key.length);
        if (outcome != DONE)
            return outcome;
        if (!output_write(output, ":", 1))
            return NO_MEMORY;
        outcome = write_value(output, input, MAX_LEVELS);
        if (outcome != DONE)
            return outcome;
    }
    format->key_count = (size_t)count;
    return DONE;
}

enum outcome
write_lines(struct output *output, struct line_format *format, struct bytes entries, size_t count)
{
    struct input input = {entries.at, entries.at + entries.length};
    for (; count; count--) {
        int64_t second;
        uint32_t nanos;
        if (!has(&input, 1) || *input.at++ != (FIXARRAY | 2) ||
            !take_time(&input, &second, &nanos))
            return UNUSUAL;
        if (!output_write(output, format->head.at, format->head.length))
            return NO_MEMORY;
        if (format->has_time) {
            if (!output_room(output, TIME_BYTES))
                return NO_MEMORY;
            write_time(output->end, &format->last, second, nanos);
            output->end += TIME_BYTES;
        }
        if (!output_write(output, format->tail.at, format->tail.length))
            return NO_MEMORY;
        enum outcome outcome = write_record(output, format, &input);
        if (outcome != DONE)
            return outcome;
        if (!output_write(output, "}\n", 2))
            return NO_MEMORY;
    }
    return input.at == input.end ? DONE : UNUSUAL;
}
