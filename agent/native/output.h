#ifndef HF_AGENT_OUTPUT_H
#define HF_AGENT_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Bytes that grow. Whoever writes makes room first, and then moves `end`. */
struct output {
    unsigned char *bytes, *end, *limit;
};

/* Makes room for `more` bytes. False when there is no memory; what was written stays. */
bool output_grow(struct output *output, size_t more);

static inline bool
output_room(struct output *output, size_t more)
{
    return (size_t)(output->limit - output->end) >= more || output_grow(output, more);
}

static inline bool
output_write(struct output *output, const void *bytes, size_t length)
{
    if (!output_room(output, length))
        return false;
    memcpy(output->end, bytes, length);
    output->end += length;
    return true;
}

#endif
