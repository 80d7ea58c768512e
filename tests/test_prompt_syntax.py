"""Brackets in prompts: read as AUTOMATIC1111 reads them, and text wherever they say nothing."""

from __future__ import annotations

import time

import pytest

from studio.prompt_syntax import is_plain, parse_prompt


def shown(text: str, steps: int = 10) -> list[tuple[int, str]]:
    """What a prompt says, and the last step at which it does: weights after a star."""
    said: list[tuple[int, str]] = []
    prompt = parse_prompt(text)
    for step in range(1, steps + 1):
        sections = prompt.at_step(step, steps)
        now = " BREAK ".join(
            "".join(
                one.text if one.weight == 1 else f"<{one.text}*{one.weight:.3g}>" for one in section
            )
            for section in sections
        )
        if said and said[-1][1] == now:
            said.pop()
        said.append((step, now))
    return said


WEIGHTS = {
    "a (red) fox": "a <red*1.1> fox",
    "a ((red)) fox": "a <red*1.21> fox",
    "a [red] fox": "a <red*0.909> fox",
    "a (red:1.3) fox": "a <red*1.3> fox",
    "a (red : 1.3 ) fox": "a <red *1.3> fox",
    "(a (red:1.3) fox:0.5)": "<a *0.5><red*0.65>< fox*0.5>",
    "(red:.5) (blue:-1)": "<red*0.5> <blue*-1>",
    "((red:9):9)": "<red*10>",
    "(16:9 photo)": "<16:9 photo*1.1>",
    "(scale 1:500)": "<scale 1:500*1.1>",
    "[a:b:c:0.5]": "<a:b:c:0.5*0.909>",
    "[a:b:-1]": "<a:b:-1*0.909>",
    "tortoise/((ladybird)) hybrid, [trending on artstation]": (
        "tortoise/<ladybird*1.21> hybrid, <trending on artstation*0.909>"
    ),
    r"a cat \(animal\), a [lion\]": r"a cat (animal), a [lion]",
    r"C:\dir \\ \[": "C:\\dir \\ [",
    "a red fox BREAK (a hen)BREAK on grass": "a red fox BREAK <a hen*1.1> BREAK on grass",
    "BREAKFAST": "BREAKFAST",
}


@pytest.mark.parametrize(("text", "said"), WEIGHTS.items())
def test_weights(text: str, said: str) -> None:
    assert shown(text) == [(10, said)]


@pytest.mark.parametrize(
    "text",
    ["a red fox", ":) and (:", "(a, [b", "a) b]", "][", "(a [b", "16:9 | 4:3", "a\\b", "", " x "],
)
def test_what_says_nothing_stays_as_it_is(text: str) -> None:
    assert shown(text) == [(10, text)]
    assert is_plain(text)


@pytest.mark.parametrize("text", [*WEIGHTS, "[a|b]", "[a:1]"])
def test_what_says_something_is_not_plain(text: str) -> None:
    assert is_plain(text) is (text == "BREAKFAST")


# The examples in get_learned_conditioning_prompt_schedules of AUTOMATIC1111, with 10 steps.
STEPS = {
    "a [b:3]": [(3, "a "), (10, "a b")],
    "a [b: 3]": [(3, "a "), (10, "a b")],
    "a [[[b]]:2]": [(2, "a "), (10, "a <b*0.826>")],
    "[(a:2):3]": [(3, ""), (10, "<a*2>")],
    "a [b : c : 1] d": [(1, "a b  d"), (10, "a  c  d")],
    "a[b:[c:d:2]:1]e": [(1, "abe"), (2, "ace"), (10, "ade")],
    "a [unbalanced": [(10, "a [unbalanced")],
    "a [b:.5] c": [(5, "a  c"), (10, "a b c")],
    "((a][:b:c [d:3]": [(3, "((a][:b:c "), (10, "((a][:b:c d")],
    "[fe|]male": [(step, "female" if step % 2 else "male") for step in range(1, 11)],
    "[a:b:0.55]": [(5, "a"), (10, "b")],
    "[a:b:1.0]": [(10, "a")],
    "[a:b:0]": [(10, "b")],
    "[a:b:40]": [(10, "a")],
    "([a:b:0.5] c:1.2)": [(5, "<a c*1.2>"), (10, "<b c*1.2>")],
    "[a|b:0.5|c]": [(step, {1: "a", 2: "b:0.5", 0: "c"}[step % 3]) for step in range(1, 11)],
}


@pytest.mark.parametrize(("text", "said"), STEPS.items())
def test_words_that_change_on_the_way(text: str, said: list[tuple[int, str]]) -> None:
    assert shown(text) == said


def test_versions_are_said_once() -> None:
    assert len(parse_prompt("[a|b|c] [d:e:0.5]").versions(20)) == 6
    assert len(parse_prompt("(a:1.2)").versions(20)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000,
        "(" * 5000 + ")" * 5000,
        "[a|" * 3333,
        "[" * 5000 + ":1]" * 1600,
        "[a:b:.5]" * 1250,
    ],
    ids=["open", "nested", "bars", "switches", "alternating"],
)
def test_no_prompt_takes_long_or_fails(text: str) -> None:
    begun = time.process_time()
    assert parse_prompt(text).versions(20)
    assert time.process_time() - begun < 2
