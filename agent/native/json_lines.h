#ifndef HF_AGENT_JSON_LINES_H
#define HF_AGENT_JSON_LINES_H

#include <stdbool.h>
#include <stddef.h>

#include "output.h"
#include "text.h"
#include "times.h"

struct bytes {
    const unsigned char *at;
    size_t length;
};

#define MAX_OWN_KEYS 2
/* Maps with more keys are UNUSUAL: each key is compared with those before it. */
#define MAX_KEYS 256

/* How entries become lines, and what is remembered from one to the next. */
struct line_format {
    struct bytes head;      /* a line's begin, up to the time, or to the record without one */
    struct bytes tail;      /* from behind the time to the record */
    bool has_time;
    struct bytes own_keys[MAX_OWN_KEYS];
    size_t own_key_count;

    struct last_second last;
    struct bytes keys[MAX_KEYS]; /* of the last record, all of them good */
    size_t key_count;
};

/* Lines for `count` entries, `[time, record]` in msgpack, which are all of `entries`.
 *
 * UNUSUAL, with anything in `output`, when there are more or fewer, or when anything in them is not
 * msgpack, or is not said in JSON as it is: see docs/forward-protocol.md. The keys that are
 * remembered point into `entries`. */
enum outcome write_lines(struct output *output, struct line_format *format, struct bytes entries,
                         size_t count);

#endif
