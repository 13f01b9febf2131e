#!/bin/sh
# Debian packages that some tests use; without one, its tests are skipped (or fail, where CARVEOUT_REQUIRE names the part).
# As root on Debian the missing ones are installed; elsewhere they are only named.
set -eu
packages="spin gcc libc6-dev pgbouncer chromium chromium-driver"

command -v dpkg-query >/dev/null 2>&1 || {
  echo "Not a Debian system: tests that need one of these are skipped where it is missing: $packages"
  exit 0
}
missing=""
for package in $packages; do
  dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "Missing, their tests are skipped:$missing (as root: apt-get install$missing)"
  exit 0
fi
echo "Installing Debian packages for the tests:$missing"
export DEBIAN_FRONTEND=noninteractive
# pgbouncer's own service must not be started: the tests start theirs.
policy=/usr/sbin/policy-rc.d
[ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && trap 'rm -f $policy' EXIT; }
{ apt-get update -q && apt-get install -qy --no-install-recommends $missing; } >/dev/null ||
  echo "Could not install:$missing (their tests are skipped)"
