#ifndef HF_AGENT_TEXT_H
#define HF_AGENT_TEXT_H

#include "output.h"

/* Why something was not written. */
enum outcome { DONE, UNUSUAL, NO_MEMORY };

/* A string of JSON, with its quotes. UNUSUAL when the bytes are not UTF-8. */
enum outcome write_text(struct output *output, const unsigned char *bytes, size_t length);

#endif
