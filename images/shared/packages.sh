#!/bin/sh
# Fills /opt/venv with the packages of one lock, and makes /src/build, which later steps build with. Runs as root in a
# stage of the build that is thrown away.
#
# Reads: ACCELERATOR (cuda, cpu or empty), TORCH_INDEX, /wheels, and the secrets `ca` and `pip`, where they are given.
set -eu
. /src/environment.sh

# What the base brings, before more is installed in this stage: it belongs on the bill of materials.
if command -v dpkg-query >/dev/null; then
	dpkg-query --show --showformat='${Package}\t${Version}\t${Architecture}\n' >/src/system.tsv
fi

python3 -m venv /src/build
/src/build/bin/pip install --quiet --no-deps --require-hashes --requirement /src/shared.txt
python3 -m venv --without-pip /opt/venv

# What is built from source is built with the versions of this file, too.
export PIP_BUILD_CONSTRAINT=/src/shared.txt
# Nothing that the stages use of DeepSpeed is compiled: no operator is built, neither now nor when it runs.
export DS_BUILD_OPS=0

lock=/src/requirements.txt
if [ "${ACCELERATOR:-}" = cpu ]; then
	grep -vE '^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)==' "$lock" >/src/without-cuda.txt
	torch=$(sed -nE 's/^torch==([^ ]+).*/torch==\1+cpu/p' "$lock")
	add ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "$torch" || {
		echo "error: no index has $torch, PyTorch without CUDA. Put its wheel into images/wheels (make images" \
			"WHEELS=folder), or name an index that has it: TORCH_INDEX=https://download.pytorch.org/whl/cpu" >&2
		exit 1
	}
	lock=/src/without-cuda.txt
fi
add --require-hashes --requirement "$lock"
settle /opt
