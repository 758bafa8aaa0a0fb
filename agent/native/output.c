#include "output.h"

#include <stdint.h>
#include <stdlib.h>

bool
output_grow(struct output *output, size_t more)
{
    size_t used = (size_t)(output->end - output->bytes);
    size_t size = (size_t)(output->limit - output->bytes);
    if (more > SIZE_MAX / 2 - used)
        return false;
    size = size > (used + more) / 2 ? 2 * size : used + more;
    unsigned char *bytes = realloc(output->bytes, size);
    if (bytes == NULL)
        return false;
    output->bytes = bytes;
    output->end = bytes + used;
    output->limit = bytes + size;
    return true;
}
