"""Protocol `lines` without I/O: whole lines out of bytes, and what is made of them.

`parser` gives whole lines. What is configured beyond that is an `assembly`: stages that join lines
into records (`multiline`, `cri`), and a format that writes records (`formats`).
"""
