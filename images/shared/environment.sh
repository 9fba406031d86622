# shellcheck shell=sh
# Sourced by the steps of a build: how pip reaches an index, and two functions.

# Where pip leaves nothing behind and asks nobody.
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
export PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0
if [ -s /run/secrets/pip ]; then export PIP_CONFIG_FILE=/run/secrets/pip; fi
if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca SSL_CERT_FILE=/run/secrets/ca; fi

# Installs into /opt/venv, which has no pip of its own, exactly what is listed.
add() {
	/src/build/bin/pip --python /opt/venv/bin/python install --quiet --no-deps --no-compile \
		--no-warn-script-location --find-links /wheels "$@"
}

# Compiles a folder to bytecode and makes it the same, byte for byte and second for second, whenever it is built.
settle() {
	# Nobody changes installed packages: Python need not look whether they were. Whoever mounts changed code over
	# /app, to try it, must have it noticed.
	case $1 in */app) mode=checked-hash ;; *) mode=unchecked-hash ;; esac
	# Not the packages' own tests, a third of all bytecode. Some packages ship templates that are no Python: `true`.
	/opt/venv/bin/python -W ignore -m compileall -q -j 0 -x '/tests/' --invalidation-mode "$mode" \
		-s "${2:-}" "$1" >/dev/null || true
	find "$1" -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH:-0}" {} +
	chmod -R a+rX,go-w "$1"
}
