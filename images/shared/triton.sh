#!/bin/sh
# Compiles the C file that Triton would compile when its first kernel starts, so that the image needs no compiler. Does
# nothing where there is no Triton, as beside a PyTorch without CUDA. Runs as root in a stage that is thrown away.
set -eu
. /src/environment.sh

driver=$(echo /opt/venv/lib/python3.*/site-packages/triton/backends/nvidia/driver.c)
[ -f "$driver" ] || exit 0

include=$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')
apt-get -qq update
# An official Python image has its own headers; Debian's Python has them in a package.
[ -f "$include/Python.h" ] || set -- libpython3-dev
DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends gcc libc6-dev "$@" >/dev/null

# The driver's library is the GPU machine's: it is linked by its name alone.
gcc -shared -Wl,-soname,libcuda.so.1 -o /tmp/libcuda.so.1 -x c /dev/null
mkdir -p /opt/venv/lib/triton
gcc "$driver" -O3 -shared -fPIC -Wno-psabi -o /opt/venv/lib/triton/cuda_utils.so -L/tmp -Wl,--no-as-needed \
	-l:libcuda.so.1 -I"$(dirname "$driver")/include" -I"$include"
install -m 755 /src/triton-cc /opt/venv/bin/triton-cc
settle /opt/venv/lib/triton
settle /opt/venv/bin
