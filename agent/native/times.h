#ifndef HF_AGENT_TIMES_H
#define HF_AGENT_TIMES_H

#include <stdint.h>

/* Bytes of 2026-01-31T12:00:00.123456789Z. */
#define TIME_BYTES 30
/* From this second on a year has more than four digits. */
#define TIME_LIMIT INT64_C(253402300800)

/* The last second that was written: most times are of the same second as the one before. */
struct last_second {
    int64_t second;
    unsigned char text[20];
};

#define NO_SECOND ((struct last_second){-1, {0}})

/* Writes TIME_BYTES: Unix seconds, 0 up to TIME_LIMIT, and nanoseconds below a second. */
void write_time(unsigned char *to, struct last_second *last, int64_t second, uint32_t nanos);

#endif
