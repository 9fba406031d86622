#!/bin/sh
# Removes the pip that came with the base image, and gives the folders that it was in the time of the build's commit, so
# that this layer, too, is the same whenever it is built.
set -eu
for path in /usr/local/bin/pip* /usr/local/lib/python3.*/site-packages/* /usr/local/lib/python3.*/ensurepip \
	/usr/lib/python3.*/ensurepip /usr/share/python-wheels; do
	[ -e "$path" ] || continue
	rm -rf "$path"
	touch --date="@${SOURCE_DATE_EPOCH:-0}" "$(dirname "$path")"
done
