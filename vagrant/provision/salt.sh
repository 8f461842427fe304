#!/bin/sh
# salt.sh VERSION: Salt for the first minion, in an environment of its own, where the box has none of this version. The states make the site's own later.
set -eu
version=$1
first=/opt/salt/first
if "$first/bin/salt-call" --version 2>/dev/null | grep -q "^salt-call $version "; then
    echo "Salt $version is there."
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get --quiet --quiet update
# timelib, which Salt needs, is compiled where no wheel of it is at hand, and only with an older setuptools.
apt-get --quiet --quiet --yes --no-install-recommends install python3-venv gcc libc6-dev python3-dev >/dev/null
rm -rf "$first"
python3 -m venv "$first"
echo "setuptools<75.6.0" >"$first/constraints.txt"
PIP_CONSTRAINT="$first/constraints.txt" "$first/bin/pip" --quiet --no-input --disable-pip-version-check install "salt==$version"
echo "Salt $version is installed in $first."
