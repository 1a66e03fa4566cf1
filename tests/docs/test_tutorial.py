"""The rules by which a page's output counts as shown."""

from __future__ import annotations

import pytest

from tests.docs.tutorial import Block, agrees, blocks, run

PAGE = """# A page

```shell
echo 1.50 mL
```

```text
1.5 mL
```

Words between.

```python
x = 2
```

```json
{"not": "run"}
```

```python
print(x)
```
"""


def test_blocks_come_in_order_with_what_they_print():
    assert blocks(PAGE) == [
        Block("shell", "echo 1.50 mL\n", 4, "1.5 mL\n"),
        Block("python", "x = 2\n", 14),
        Block("python", "print(x)\n", 22),
    ]


def test_python_blocks_share_their_names_and_shell_blocks_tell_what_failed():
    names: dict[str, object] = {}
    first, second, third = blocks(PAGE)
    assert (run(first, names), run(second, names), run(third, names)) == ("1.50 mL\n", "", "2\n")
    with pytest.raises(RuntimeError, match=r"line 9: exit code 3\nbefore\n$"):
        run(Block("shell", "echo before\nexit 3\necho after", 9), names)
    with pytest.raises(RuntimeError, match="exit code 1"):
        run(Block("shell", "false | true\necho after", 9), names)


def test_output_without_a_block_is_a_mistake_of_the_page():
    with pytest.raises(ValueError, match="line 2: output is shown"):
        blocks("```text\nno block\n```\n")
    with pytest.raises(ValueError, match="no block right above"):
        blocks("```shell\ntrue\n```\n\nwords\n\n```text\nlate\n```\n")


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a  b\n\n ───\n", "\n a b \n─────\n"),
        ("volume 1.86 mL", "volume 1.87 mL"),
        ("volume 100.0 mL", "volume 101.9 mL"),
        ("done in ... s", "done in 12.5 s"),
        ("first\n...\nlast", "first\nlast"),
        ("first\n...\nlast", "first\nx\ny\nlast"),
        ("... (3 of 3)", "0.51 (3 of 3)"),
    ],
)
def test_what_agrees(shown, printed):
    assert agrees(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("", "anything"),
        ("anything", ""),
        ("volume 1.86 mL", "volume 1.95 mL"),
        ("volume 1.86 mL", "volume -1.86 mL"),
        ("3 of 3 cases", "2 of 3 cases"),
        ("first\n...\nlast", "first\nlast\nmore"),
        ("one\ntwo", "two\none"),
    ],
)
def test_what_does_not(shown, printed):
    assert not agrees(shown, printed)
