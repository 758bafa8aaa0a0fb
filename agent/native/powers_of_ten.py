"""Write `powers_of_ten.h`: what printing a double needs to know of each power of ten.

python agent/native/powers_of_ten.py > agent/native/powers_of_ten.h
"""

from __future__ import annotations

import sys
from fractions import Fraction

FIRST, LAST = -292, 324
BITS = 128


def significand(power: int) -> int:
    """The first 128 bits of 10**power, rounded up."""
    exact = Fraction(10) ** power
    exponent = exact.numerator.bit_length() - exact.denominator.bit_length()
    if Fraction(2) ** exponent > exact:
        exponent -= 1
    scaled = exact * Fraction(2) ** (BITS - 1 - exponent)
    return -(-scaled.numerator // scaled.denominator)


def header() -> str:
    """All of the file."""
    lines = [
        "/* Made by powers_of_ten.py. The first 128 bits of each power of ten, rounded up. */",
        "#ifndef HF_AGENT_POWERS_OF_TEN_H",
        "#define HF_AGENT_POWERS_OF_TEN_H",
        "",
        "#include <stdint.h>",
        "",
        f"#define FIRST_POWER ({FIRST})",
        f"#define LAST_POWER {LAST}",
        "",
        "static const struct { uint64_t high, low; } powers_of_ten[] = {",
        *(
            f"    {{0x{value >> 64:016x}, 0x{value & (1 << 64) - 1:016x}}}, /* {power} */"
            for power in range(FIRST, LAST + 1)
            for value in [significand(power)]
        ),
        "};",
        "",
        "#endif",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(header())
