#!/bin/sh
# Runs its arguments with a Python that Izvor can use: `with_python.sh launcher/install.py …`.
# $PYTHON is tried first. A shell script, since an old Python could not even read our files.
set -u

new_enough='import sys; sys.exit(not sys.version_info >= (3, 11))'
seen=

for candidate in "${PYTHON:-python3}" python3 python3.14 python3.13 python3.12 python3.11 python; do
    # A name may exist and not run (version managers leave such shims), so it is run.
    if version=$("$candidate" -c 'import platform; print(platform.python_version())' 2>/dev/null); then
        if "$candidate" -c "$new_enough"; then
            exec "$candidate" "$@"
        fi
        seen="${seen:-$candidate is $version}"
    fi
done

echo "izvor: Python 3.11 or newer is needed and was not found${seen:+ ($seen)}." \
    "Install it, or name it: make dev PYTHON=/path/to/python3" >&2
exit 1
