#ifndef HF_AGENT_NEWLINES_H
#define HF_AGENT_NEWLINES_H

#include <stddef.h>

/* How many newlines the bytes have. */
size_t count_newlines(const unsigned char *bytes, size_t length);

#endif
