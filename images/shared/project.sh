#!/bin/sh
# Installs this repository, editable, at /app, and lays all that it adds to the image in /project. Writes the bill of
# materials. Runs as root in a stage of the build that is thrown away.
#
# Reads: IMAGE, the image's name, and the secrets `ca` and `pip`, where they are given.
set -eu
. /src/environment.sh

PIP_BUILD_CONSTRAINT=/src/shared.txt add --root /project --editable /app
cp -a /project/opt/venv/. /opt/venv/
/src/build/bin/python /src/sbom.py "pathoflow-$IMAGE" /opt/venv/bin/python /app/pyproject.toml \
	/project/opt/sbom.cdx.json
cp -a /app /project/app
settle /project/app /project
settle /project/opt
