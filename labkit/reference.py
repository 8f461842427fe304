"""``docs/reference.md``, made from the docstrings of the states and the execution modules.

``python3 -m labkit.reference`` writes it; a unit test says when it is out of date.
"""

import ast
import inspect
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
TARGET = REPO / "docs/reference.md"

# Salt's decorators of what has a Python name that is taken.
_ALIAS = "__func_alias__"


def text(repo=REPO):
    """Return the whole page."""
    parts = [
        "# Reference",
        "Made from the docstrings by `python3 -m labkit.reference`; on a minion `salt-call --local sys.state_doc rbd_image` and "
        "`salt-call --local sys.doc rbd_image` show the same. The pillar is described in [pillar.md](pillar.md).",
    ]
    for title, folder in (("States", "_states"), ("Execution modules", "_modules")):
        parts.append(f"# {title}")
        for path in sorted((repo / folder).glob("*.py")):
            parts += _module(path)
    return "\n\n".join(parts) + "\n"


def _module(path):
    tree = ast.parse(path.read_text())
    aliases = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == _ALIAS:
            aliases = ast.literal_eval(node.value)
    yield f"## {path.stem}"
    yield _markdown(ast.get_docstring(tree))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield f"### {path.stem}.{aliases.get(node.name, node.name)}({ast.unparse(node.args)})"
            yield _markdown(ast.get_docstring(node))


def _markdown(docstring):
    """Turn the little reStructuredText of Salt's docstrings into Markdown: code blocks, definition lists, literals."""
    lines, language = [], None
    for line in inspect.cleandoc(docstring).replace("``", "`").split("\n"):
        if line.strip().startswith(".. code-block::"):
            language = line.split("::")[1].strip()
            lines.append(f"```{language}")
            continue
        if language is not None:
            if not line.strip() or line.startswith("    "):
                lines.append(line[4:])
                continue
            lines = [*_trimmed(lines), "```", ""]
            language = None
        lines.append(line)
    if language is not None:
        lines = [*_trimmed(lines), "```"]
    return _definitions("\n".join(lines))


def _trimmed(lines):
    """Without empty lines at the end, and without the one that stands behind the opening fence."""
    while not lines[-1].strip():
        lines.pop()
    fence = max(number for number, line in enumerate(lines) if line.startswith("```"))
    if not lines[fence + 1].strip():
        del lines[fence + 1]
    return lines


def _definitions(markdown):
    """An indented text under a line of names becomes an entry of a list."""
    found, code = [], False
    for line in markdown.split("\n"):
        code ^= line.startswith("```")
        if not code and line.startswith("    ") and found and found[-1] and not found[-1].startswith((" ", "-", "`")):
            found[-1] = f"- **{found[-1]}**"
        found.append("  " + line.strip() if not code and line.startswith("    ") else line)
    return "\n".join(found)


if __name__ == "__main__":
    TARGET.write_text(text())
