"""Writes docs/api.md from the docstrings of what `import rnafold` promises: python scripts/make_api_page.py"""

import dataclasses
import inspect
import re
import textwrap
from pathlib import Path

import rnafold
from rnafold.files.atomic import write_text

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"
HEAD = """\
# What `import rnafold` promises

Made from the docstrings by `python scripts/make_api_page.py`; a test holds the page against them. Nothing else of the
package is promised: other modules may change with any version. Importing `rnafold` loads nothing; a name is loaded when
it is first used. Coordinates are C1' atoms in Å, masks are True where something is real. What a user can mend is an
`InputError`, one line; anything else is a bug.
"""


def build_page() -> str:
    """The page as Markdown: functions, then value types, in the order of `rnafold.__all__`."""
    values = {name: getattr(rnafold, name) for name in rnafold.__all__}
    functions = {name: value for name, value in values.items() if inspect.isfunction(value)}
    types = {name: value for name, value in values.items() if name not in functions}
    parts = [HEAD, "## Functions\n", *(describe_function(name, value) for name, value in functions.items())]
    parts += ["## Value types\n", *(describe_type(name, value) for name, value in types.items())]
    return "\n".join(parts)


def describe_function(name: str, function: object) -> str:
    """Signature and docstring of a function."""
    assert callable(function)
    signature = inspect.signature(function)
    lines = [f"    {_plain(str(parameter))}," for parameter in _with_stars(signature)]
    text = "\n".join([f"rnafold.{name}(", *lines, f") -> {_plain(str(signature.return_annotation))}"])
    return f"### `{name}`\n\n```python\n{text}\n```\n\n{_format_docstring(inspect.getdoc(function) or '')}\n"


def describe_type(name: str, kind: type) -> str:
    """Docstring and fields of a value type."""
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    listed = "".join(f"- `{field.name}: {_plain(str(field.type))}`\n" for field in fields)
    return f"### `{name}`\n\n{_format_docstring(inspect.getdoc(kind) or '')}\n\n{listed}"


def _with_stars(signature: inspect.Signature) -> list[str]:
    found, open_star = [], False
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not open_star:
            found.append("*")
            open_star = True
        found.append(str(parameter))
    return found


def _plain(text: str) -> str:
    """An annotation as one writes it: without quotes and module names."""
    text = re.sub(r"<class '([^']+)'>", r"\1", text).replace("'", "") if text.startswith("<class") else text
    text = re.sub(r"""(?<=[:\s>|(\[])['"]([A-Z]\w*(?:\s*\|\s*\w[\w.]*)*|list\[\w+\])['"]""", r"\1", f" {text}").strip()
    return re.sub(r"\b(?:rnafold|collections|pathlib|numpy|typing)(?:\.[a-z_]+)*\.(?=[A-Z])", "", text)


def _format_docstring(text: str) -> str:
    """A Google docstring as Markdown: its sections in bold, arguments as a list, examples as code."""
    body, _, example = text.partition(">>>")
    lines = []
    section = ""
    for line in body.rstrip().splitlines():
        if re.fullmatch(r"(Args|Returns|Raises|Attributes):", line):
            section = line[:-1]
            lines += [f"**{ {'Args': 'Arguments'}.get(section, section) }**", ""]
        elif section in ("Args", "Raises", "Attributes") and re.match(r"    \w+: ", line):
            name, _, rest = line.strip().partition(": ")
            lines.append(f"- `{name}`: {rest}")
        elif section and line.startswith("    "):
            lines.append(f"  {line.strip()}" if section != "Returns" else line.strip())
        else:
            section = section if line else ""
            lines.append(line)
    shown = f"\n\n```pycon\n{textwrap.dedent('>>>' + example).rstrip()}\n```" if example else ""
    return "\n".join(lines).rstrip() + shown


if __name__ == "__main__":
    write_text(PAGE, build_page())
