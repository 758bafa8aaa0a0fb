"""Which stream a tag's events go to."""

from __future__ import annotations

import pytest

from hf_agent.ingest.forward.stream_template import StreamTemplate


@pytest.mark.parametrize(
    ("template", "tag", "stream"),
    [
        ("{tag}", "app.web.access", "app.web.access"),
        ("{tag}", "app", "app"),
        ("all", "app.web", "all"),
        ("{tag[0]}", "app.web.access", "app"),
        ("{tag[-1]}", "app.web.access", "access"),
        ("{tag[1]}", "app.web.access", "web"),
        ("{tag[1:]}", "app.web.access", "web.access"),
        ("{tag[:-1]}", "app.web.access", "app.web"),
        ("{tag[0:2]}", "app.web.access", "app.web"),
        ("{tag[:]}", "app.web", "app.web"),
        ("{tag[0]}/{tag[1:]}", "kube.var.log.x", "kube/var.log.x"),
        ("logs/{tag[0]}-{tag[2]}", "a.b.c", "logs/a-c"),
        ("{tag}", "app/web", "app/web"),
    ],
)
def test_a_tag_fills_the_template(template: str, tag: str, stream: str) -> None:
    assert StreamTemplate(template).stream(tag) == stream


@pytest.mark.parametrize(
    ("template", "tag"),
    [
        ("{tag}", ""),
        ("{tag}", "app web"),
        ("{tag}", "äpp"),
        ("{tag}", ".."),
        ("{tag}", "/app"),
        ("{tag}", "a" * 201),
        ("{tag}", "a\n"),
        ("{tag[3]}", "app.web"),
        ("{tag[-3]}", "app.web"),
        ("{tag[5:]}", "app.web"),
        ("x/{tag[1:]}", "app"),
    ],
)
def test_a_tag_may_make_no_name(template: str, tag: str) -> None:
    assert StreamTemplate(template).stream(tag) is None


@pytest.mark.parametrize(
    ("template", "what"),
    [
        *((text, "template") for text in ("{tag", "tag}", "{}", "{stream}", "{tag[a]}", "{tag[0}")),
        ("{tag[]}", "part of the tag"),
        ("a b", "stream's name"),
        ("{tag}ä", "stream's name"),
    ],
)
def test_what_is_no_template_is_refused(template: str, what: str) -> None:
    with pytest.raises(ValueError, match=f"^not a {what}"):
        StreamTemplate(template)
