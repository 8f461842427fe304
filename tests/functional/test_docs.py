"""What the docstrings show is real: every ``CLI Example:`` and every SLS names functions and arguments that exist, and runs."""

import ast
import inspect
import re
import shlex
import uuid
from pathlib import Path

import pytest
import salt.loader
import yaml
from salt.utils.args import yamlify_arg

REPO = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (REPO / "_modules").glob("*.py"))
STATES = sorted(path.stem for path in (REPO / "_states").glob("*.py"))
# Run on the cluster as they stand: images, snapshots, clones. The others want devices: their own tests run the like.
RUN = ("rbd_image", "rbd_snapshot", "rbd_clone", "rbd_volumes", "rbd_namespace")


def functions(kind, name):
    """Return {name as Salt has it: docstring} of a file's public functions, without loading it."""
    tree = ast.parse((REPO / kind / f"{name}.py").read_text())
    alias = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__func_alias__":
            alias = ast.literal_eval(node.value)
    return {
        alias.get(node.name, node.name): ast.get_docstring(node) or ""
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def blocks(text, language):
    """Return the literal blocks of a docstring in a language."""
    found = re.findall(rf"\.\. code-block:: {language}\n\n((?: +.*\n|\n)+)", text + "\n")
    return [inspect.cleandoc("\n" + block) for block in found]


def commands():
    for name in MODULES:
        for function, text in functions("_modules", name).items():
            lines = [line for block in blocks(text.partition("CLI Example:")[2], "bash") for line in block.splitlines()]
            for number, line in enumerate(lines or [""]):
                yield pytest.param(f"{name}.{function}", line, id=f"{name}.{function}-{number}")


def declarations():
    for name in STATES:
        text = ast.get_docstring(ast.parse((REPO / "_states" / f"{name}.py").read_text())) or ""
        for title, doc in [("module", text), *functions("_states", name).items()]:
            for number, block in enumerate(blocks(doc, "yaml")):
                yield pytest.param(block, id=f"{name}.{title}-{number}")


@pytest.mark.parametrize("name", STATES)
def test_every_state_module_shows_an_sls(name):
    shown = {identity for identity in (param.id.partition("-")[0] for param in declarations()) if identity.startswith(name + ".")}
    documented = functions("_states", name)
    assert all(documented.values())
    assert f"{name}.module" in shown


def understood(line):
    """Return (function, args, kwargs) of a salt or salt-call command."""
    words = shlex.split(line)
    if words[:2] == ["salt", "*"] or words[:2] == ["salt-call", "--local"]:
        del words[:2]
    args, kwargs = [], {}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if equals and key.isidentifier():
            kwargs[key] = yamlify_arg(value)
        else:
            args.append(yamlify_arg(word))
    return words[0], args, kwargs


@pytest.mark.parametrize(("function", "line"), list(commands()))
def test_cli_examples_are_calls_that_can_be(modules, function, line):
    assert line, f"{function} has no CLI Example"
    name, args, kwargs = understood(line)
    assert name == function
    module, _, short = function.partition(".")
    inspect.signature(getattr(getattr(modules, module), short)).bind(*args, **kwargs)


# What an example needs beyond the images and snapshots that it names, and what it must not find.
MAKES = {
    "rbd_image.rename": lambda images: images[1:],
    "rbd_image.create": lambda images: images,
    "rbd_clone.create": lambda images: images[:-1],
}
PREPARED = {
    "rbd_image.set_features": ["feature", "enable", "{image}", "journaling"],
    "rbd_snapshot.unprotect": ["snap", "protect", "{image}@snap1"],
    "rbd_clone.create": ["snap", "protect", "{parent}@snap1"],
    "rbd_image.restore": ["trash", "mv", "{image}"],
    "rbd_image.trashed": ["trash", "mv", "{image}"],
}


@pytest.mark.parametrize(("function", "line"), [param for param in commands() if param.values[0].partition(".")[0] in RUN])
def test_cli_examples_run(modules, pool, rbd_cli, function, line):
    if "consistency=filesystem" in line:
        pytest.skip("nothing is mounted here")
    new = f"d{uuid.uuid4().hex[:6]}"
    named = re.findall(r"(rbd/)?\b(rbd000\d|db)\b(?:@(\w+))?", line)
    line = re.sub(r"(rbd/)?\b(rbd000\d|db)\b", rf"{pool}/{new}-\2", line)
    line = line.replace("namespaces rbd", f"namespaces {pool}").replace("tenx-k8s", pool)
    if "namespace=" in line or function in ("rbd_namespace.info", "rbd_namespace.remove"):
        rbd_cli("namespace", "create", f"{pool}/volumes", check=False)  # an earlier example may have made it
    elif function == "rbd_namespace.create":
        rbd_cli("namespace", "remove", f"{pool}/volumes", check=False)
    line = line.replace("rbd/volumes", f"{pool}/volumes")
    images = list(dict.fromkeys(name for _, name, _ in named))
    made = MAKES.get(function, lambda images: [])(images)
    for image in [image for image in images if image not in made]:
        rbd_cli("create", f"{pool}/{new}-{image}", "--size", "8M")
    for _, image, snapshot in named:
        if snapshot and function != "rbd_snapshot.create":
            rbd_cli("snap", "create", f"{pool}/{new}-{image}@{snapshot}")
    there = {"image": f"{pool}/{new}-{images[0]}" if images else "", "parent": f"{pool}/{new}-{images[-1]}" if images else ""}
    if function == "rbd_image.restore":
        line = re.sub(r"\S+$", rbd_cli.json("info", there["image"])["id"], line)
    if function in PREPARED:
        rbd_cli(*(word.format(**there) for word in PREPARED[function]))
    name, args, kwargs = understood(line)
    module, _, short = name.partition(".")
    answer = getattr(getattr(modules, module), short)(*args, **kwargs)
    assert answer is not None
    assert answer is not False


@pytest.fixture(scope="module")
def raw_states(loaders):
    """The state functions themselves."""
    return salt.loader.states(loaders.opts, loaders.modules, loaders.utils, loaders.serializers)


@pytest.mark.parametrize("text", list(declarations()))
def test_sls_in_docstrings(raw_states, state_run, pool, text):
    """Each argument is the function's, and Salt runs it; requisites on states that stand elsewhere are left out."""
    high = yaml.safe_load(text)
    assert isinstance(high, dict)
    there = set()
    for identity, body in high.items():
        body = body if isinstance(body, dict) else {body: []}
        high[identity] = body
        for function, arguments in body.items():
            given = {key: value for argument in arguments or [] for key, value in argument.items()}
            there |= {(function.partition(".")[0], name) for name in (identity, given.get("name"))}
            if function.partition(".")[0] in STATES:
                asked = {key: value for key, value in given.items() if key not in ("require", "watch", "parallel")}
                inspect.signature(raw_states[function]).bind(**dict({"name": identity}, **asked))
    for body in high.values():
        for arguments in filter(None, body.values()):
            for argument in arguments:
                for key in {"require", "watch"} & set(argument):
                    argument[key] = [item for item in argument[key] if tuple(*item.items()) in there]
    results = state_run(yaml.safe_dump(high).replace("rbd/", f"{pool}/"), test=True)
    assert len(results) == sum(len(body) for body in high.values())
    for ran in results:
        assert "Traceback" not in ran.comment
        assert "keyword argument" not in ran.comment
        assert ran.comment


@pytest.mark.parametrize("name", MODULES)
def test_every_documented_function_is_loaded(modules, name):
    assert modules[f"{name}.{min(functions('_modules', name))}"]  # loads the module
    loaded = {key.partition(".")[2] for key in modules if key.startswith(name + ".")}
    assert loaded == set(functions("_modules", name))
