#include "newlines.h"

/* Counters of a byte each are what compilers turn into vector instructions; they are added up before
 * they can overflow. */
#define LANES 64
#define ROUNDS 255

size_t
count_newlines(const unsigned char *bytes, size_t length)
{
    size_t count = 0;
    while (length >= LANES) {
        size_t rounds = length / LANES;
        unsigned char lanes[LANES] = {0};
        if (rounds > ROUNDS)
            rounds = ROUNDS;
        for (size_t round = 0; round < rounds; round++, bytes += LANES)
            for (size_t lane = 0; lane < LANES; lane++)
                lanes[lane] = (unsigned char)(lanes[lane] + (bytes[lane] == '\n'));
        for (size_t lane = 0; lane < LANES; lane++)
            count += lanes[lane];
        length -= rounds * LANES;
    }
    for (size_t at = 0; at < length; at++)
        count += bytes[at] == '\n';
    return count;
}
