#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds a Debian 13 folder with Blender 4.3 and an X server without a screen, for the tests in this folder.
# Usage: make_chroot.sh DIRECTORY. Needs root, mmdebstrap, 1.2 GB; about 40 s. Says why and exits 75 where it cannot.
set -euo pipefail
target=${1:?usage: make_chroot.sh DIRECTORY}
skip() { echo "SKIP: no Blender window: $*" >&2; exit 75; }

if [ -x "$target/usr/bin/blender" ]; then exit 0; fi
[ "$(id -u)" = 0 ] || skip "building the chroot needs root"
command -v mmdebstrap >/dev/null || skip "mmdebstrap is not installed (apt-get install mmdebstrap)"
# The mirror that apt uses here, in the old or the new format of its list.
mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/*.sources 2>/dev/null ||:)
[ -n "$mirror" ] || mirror=$(awk '/^deb / {for (i = 2; i <= NF; i++) if ($i ~ /:\//) {print $i; exit}}' /etc/apt/sources.list 2>/dev/null ||:)
[ -n "$mirror" ] || skip "apt has no mirror configured"

# German and French of Blender itself. dpkg makes no folder that is left out, so each is named.
languages=(--dpkgopt=path-include=/usr/share/locale/languages)
for code in de fr; do
  for path in "" /LC_MESSAGES /LC_MESSAGES/blender.mo; do
    languages+=("--dpkgopt=path-include=/usr/share/locale/$code$path")
  done
done
part="$target.part"
rm -rf "$part"
mkdir -p "$(dirname "$target")"
if ! mmdebstrap --quiet --mode=root --variant=essential --components=main \
  --aptopt='Acquire::Check-Valid-Until "false"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
  "${languages[@]}" \
  --include=blender,python3-numpy,python3-requests,python3-zstandard,xvfb,xauth,x11-apps \
  --include=libgl1-mesa-dri,libegl1,libegl-mesa0,libglx-mesa0,libgl1,ca-certificates \
  trixie "$part" "$mirror"; then
  rm -rf "$part"
  skip "Debian 13 could not be installed from the configured mirror"
fi
# Only a finished chroot gets the name that the tests look for.
rm -rf "$target"
mv "$part" "$target"
