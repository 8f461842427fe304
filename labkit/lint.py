"""``./lab test lint``: every linter over the whole checkout, each with its own configuration at the top."""

from labkit import prepare
from labkit.commands import run
from labkit.home import REPO

SHELL = ["lab", "labkit/prepare.sh", "packaging/install.sh", ".ci/run", "vagrant/salt/lab_ceph/make-osd"]


def main(home):
    """Run the linters, print what they found, and return 0 where all are content."""
    tools = prepare.lint_environment(home) / "bin"
    states = sorted(str(path.relative_to(REPO)) for tree in ("salt", "vagrant/salt") for path in (REPO / tree).rglob("*.sls"))
    scripts = [*SHELL, *sorted(str(path.relative_to(REPO)) for path in (REPO / "vagrant/provision").glob("*.sh"))]
    failed = 0
    commands = [
        [tools / "ruff", "check", "--output-format=concise", "."],
        [tools / "ruff", "format", "--check", "--output-format=concise", "."],
        [tools / "yamllint", "--strict", "."],
        [tools / "salt-lint", *states],
        ["shellcheck", "--external-sources", *scripts],
    ]
    for argv in commands:
        name = " ".join(str(part) for part in [getattr(argv[0], "name", argv[0]), *argv[1:3]])
        code, out, err = run(argv, timeout=300, check=False, cwd=REPO)
        print(f"  {'ok     ' if code == 0 else 'failed '} {name}", flush=True)
        if code != 0:
            failed += 1
            print((out + err).strip())
    print(f"lint: {len(commands) - failed} passed, {failed} failed")
    return 1 if failed else 0
