#!/bin/sh
# Lays the package down below the folder given: packaging/install.sh DESTDIR. The same for the RPM, for the .deb and for a container image.
set -eu

cd "$(dirname "$0")/.."
root=${1:?"usage: packaging/install.sh DESTDIR"}
share=$root/usr/share/salt-rbd
doc=$root/usr/share/doc/salt-rbd
umask 022

mkdir -p "$share/example/salt" "$doc"
# Timestamps and links as they are: salt/_modules and its like are links to the folders beside salt.
copy="cp -R -P --preserve=timestamps"
$copy _beacons _modules _runners _states _utils salt "$share"
find "$share" -name __pycache__ -prune -exec rm -rf {} +
# The top file of the example site and the lab's own demo would act on minions that happen to have the example's names.
mv "$share/salt/top.sls" "$share/example/salt"
rm -r "$share/salt/demo"
$copy pillar "$share/example"
$copy README.md CHANGELOG.md docs "$doc"

for daemon in master minion; do
    mkdir -p "$root/etc/salt/$daemon.d"
    $copy packaging/00-salt-rbd.conf "$root/etc/salt/$daemon.d"
done
chmod -R u=rwX,go=rX "$share" "$doc" "$root"/etc/salt/*.d/00-salt-rbd.conf
