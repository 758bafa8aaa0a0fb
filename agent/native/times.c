#include "times.h"

#include <string.h>

#include "numbers.h"

#define DAY 86400
#define DAYS_OF_400_YEARS 146097
#define DAYS_TO_1970 719468 /* from the first of March of year 0 */

static void
write_second(unsigned char *to, int64_t second)
{
    int64_t days = second / DAY + DAYS_TO_1970;
    int64_t rest = second % DAY;
    /* Years that begin with March have their leap day at the end. Each 4 years, 100 years and 400
     * years a day is there, or is not: what is divided by is a year in the mean. */
    int64_t cycle = days / DAYS_OF_400_YEARS;
    int64_t day = days % DAYS_OF_400_YEARS;
    int64_t year = (day - day / 1460 + day / 36524 - day / (DAYS_OF_400_YEARS - 1)) / 365;
    day -= 365 * year + year / 4 - year / 100;
    int64_t month = (5 * day + 2) / 153; /* 0: March; five months have 153 days */
    int64_t month_day = day - (153 * month + 2) / 5 + 1;
    month += month < 10 ? 3 : -9;
    year += 400 * cycle + (month <= 2);

    write_digits(to, (uint64_t)year, 4);
    to[4] = '-';
    write_digits(to + 5, (uint64_t)month, 2);
    to[7] = '-';
    write_digits(to + 8, (uint64_t)month_day, 2);
    to[10] = 'T';
    write_digits(to + 11, (uint64_t)(rest / 3600), 2);
    to[13] = ':';
    write_digits(to + 14, (uint64_t)(rest / 60 % 60), 2);
    to[16] = ':';
    write_digits(to + 17, (uint64_t)(rest % 60), 2);
    to[19] = '.';
}

void
write_time(unsigned char *to, struct last_second *last, int64_t second, uint32_t nanos)
{
    if (second != last->second) {
        write_second(last->text, second);
        last->second = second;
    }
    memcpy(to, last->text, sizeof last->text);
    write_digits(to + sizeof last->text, nanos, 9);
    to[TIME_BYTES - 1] = 'Z';
}
