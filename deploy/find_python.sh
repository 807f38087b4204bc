#!/bin/sh
# Prints the Python that makes .venv: the one that PYTHON names, else the first that runs, has a supported version and
# can make a virtual environment. Called as: find_python.sh "$(PYTHON)"
supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'

if [ -n "$1" ]; then
    if ! "$1" -c '' >/dev/null 2>&1; then
        echo "PYTHON=$1 does not run; give the path of a Python 3.11, 3.12 or 3.13." >&2
        exit 2
    fi
    if ! "$1" -c "$supported" >/dev/null 2>&1; then
        echo "PYTHON=$1 is $("$1" -V 2>&1); Okamochi needs Python 3.11, 3.12 or 3.13." >&2
        exit 2
    fi
    echo "$1"
    exit 0
fi

second_best=
for candidate in python3.13 python3.12 python3.11 python3; do
    "$candidate" -c "$supported" >/dev/null 2>&1 || continue
    if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        echo "$candidate"
        exit 0
    fi
    [ -n "$second_best" ] || second_best=$candidate
done
if [ -n "$second_best" ]; then # deploy/environment.py prints what is missing
    echo "$second_best"
    exit 0
fi
echo "No Python 3.11, 3.12 or 3.13 found (looked for python3.13, python3.12, python3.11, python3); install one or name it: make serve PYTHON=/path/to/python3.12" >&2
exit 2
