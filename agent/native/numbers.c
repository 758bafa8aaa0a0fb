/* Numbers as text. Doubles by the algorithm of R. Giulietti, "The Schubfach way to render doubles"
 * (2020): of the decimals that are nearer to a double than to its neighbours, the shortest, and of
 * those the nearest, is found with three multiplications. */

#include "numbers.h"

#include <stdbool.h>
#include <string.h>

#include "powers_of_ten.h"

#define FRACTION_BITS 52
#define EXPONENT_BIAS 1075
#define POINT_AFTER 16  /* So many digits at most stand in front of a point, else an exponent is used, */
#define ZEROS_BEFORE 5  /* and fewer zeros than that behind it. */

__extension__ typedef unsigned __int128 uint128;

struct decimal {
    uint64_t digits;
    int exponent;
};

static const char pairs[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
                            "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
                            "8081828384858687888990919293949596979899";

void
write_digits(unsigned char *to, uint64_t value, int count)
{
    for (; count >= 2; count -= 2, value /= 100)
        memcpy(to + count - 2, pairs + 2 * (value % 100), 2);
    if (count)
        *to = (unsigned char)('0' + value);
}

static int
count_digits(uint64_t value)
{
    int count = 1;
    for (; value >= 10000; value /= 10000)
        count += 4;
    return count + (value >= 10) + (value >= 100) + (value >= 1000);
}

unsigned char *
write_unsigned(unsigned char *to, uint64_t value)
{
    int count = count_digits(value);
    write_digits(to, value, count);
    return to + count;
}

unsigned char *
write_signed(unsigned char *to, int64_t value)
{
    if (value >= 0)
        return write_unsigned(to, (uint64_t)value);
    *to++ = '-';
    return write_unsigned(to, 0 - (uint64_t)value);
}

/* The upper 64 bits of a product of 192, the last of them set where any below is: nothing that
 * decides a comparison is lost. */
static uint64_t
multiply(uint64_t high, uint64_t low, uint64_t factor)
{
    uint128 sum = (uint128)high * factor + (uint64_t)((uint128)low * factor >> 64);
    return (uint64_t)(sum >> 64) | ((uint64_t)sum > 1);
}

/* Of a double that is not 0. */
static struct decimal
shortest(uint64_t fraction, int exponent_bits)
{
    bool is_normal = exponent_bits != 0;
    uint64_t c = is_normal ? fraction | (uint64_t)1 << FRACTION_BITS : fraction;
    int q = (is_normal ? exponent_bits : 1) - EXPONENT_BIAS;
    /* Below a power of two the next double is only half as far away. */
    bool is_closer_below = fraction == 0 && exponent_bits > 1;
    bool is_odd = c & 1;

    /* 10**k is at most the distance to the next double, and 10**(k + 1) is more. The divisors are
     * powers of two: >> rounds down, for negative numbers as well. */
    int k = (q * 1262611 - (is_closer_below ? 524031 : 0)) >> 22;
    int shift = q + (-k * 1741647 >> 19) + 1;
    uint64_t high = powers_of_ten[-k - FIRST_POWER].high;
    uint64_t low = powers_of_ten[-k - FIRST_POWER].low;

    /* Four times the double and the two middles between it and its neighbours, as multiples of
     * 10**k. A middle itself is read as the double where that is even. */
    uint64_t value = multiply(high, low, 4 * c << shift);
    uint64_t lower = multiply(high, low, (4 * c - 2 + is_closer_below) << shift) + is_odd;
    uint64_t upper = multiply(high, low, (4 * c + 2) << shift) - is_odd;

    uint64_t whole = value / 4;
    if (whole >= 10) {
        uint64_t tens = whole / 10;
        bool is_below_inside = lower <= 40 * tens;
        bool is_above_inside = 40 * tens + 40 <= upper;
        if (is_below_inside != is_above_inside)
            return (struct decimal){tens + is_above_inside, k + 1};
    }
    bool is_below_inside = lower <= 4 * whole;
    bool is_above_inside = 4 * whole + 4 <= upper;
    if (is_below_inside != is_above_inside)
        return (struct decimal){whole + is_above_inside, k};
    uint64_t middle = 4 * whole + 2;
    bool is_up = value > middle || (value == middle && (whole & 1));
    return (struct decimal){whole + is_up, k};
}

unsigned char *
write_double(unsigned char *to, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint64_t fraction = bits & (((uint64_t)1 << FRACTION_BITS) - 1);
    int exponent_bits = (int)(bits >> FRACTION_BITS & 0x7ff);
    if (bits >> 63)
        *to++ = '-';
    if (fraction == 0 && exponent_bits == 0) {
        memcpy(to, "0.0", 3);
        return to + 3;
    }
    struct decimal decimal = shortest(fraction, exponent_bits);
    while (decimal.digits % 10 == 0) {
        decimal.digits /= 10;
        decimal.exponent++;
    }
    int count = count_digits(decimal.digits);
    int point = count + decimal.exponent; /* digits in front of it */
    if (point > POINT_AFTER || point <= -ZEROS_BEFORE) {
        write_digits(to + 1, decimal.digits, count);
        to[0] = to[1];
        if (count > 1) {
            to[1] = '.';
            to += count;
        }
        to++;
        *to++ = 'e';
        return write_signed(to, point - 1);
    }
    if (point <= 0) {
        memcpy(to, "0.00000", 7);
        to += 2 - point;
        write_digits(to, decimal.digits, count);
        return to + count;
    }
    if (decimal.exponent >= 0) {
        write_digits(to, decimal.digits, count);
        memset(to + count, '0', (size_t)decimal.exponent);
        to += point;
        memcpy(to, ".0", 2);
        return to + 2;
    }
    write_digits(to + 1, decimal.digits, count);
    memmove(to, to + 1, (size_t)point);
    to[point] = '.';
    return to + count + 1;
}
