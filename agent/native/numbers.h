#ifndef HF_AGENT_NUMBERS_H
#define HF_AGENT_NUMBERS_H

#include <stdint.h>

/* At most so many bytes are written for a number. */
#define NUMBER_BYTES 32

/* Each writes a number as JSON has it, and returns where its text ends. */
unsigned char *write_unsigned(unsigned char *to, uint64_t value);
unsigned char *write_signed(unsigned char *to, int64_t value);

/* `value` must be finite. The shortest digits that are read as the same double again. */
unsigned char *write_double(unsigned char *to, double value);

/* Exactly `count` digits, with zeros in front. `value` must have no more. */
void write_digits(unsigned char *to, uint64_t value, int count);

#endif
