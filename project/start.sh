#!/bin/sh
# Usage: project/start.sh REQUIREMENTS COMMAND...
# Runs `python COMMAND...` in .venv with these requirements, and makes .venv first where that is needed.
cd "$(dirname "$0")/.." || exit 1

# The usual case: everything is there already.
if cmp -s "$1" ".venv/$1" && [ ! -e .venv/unfinished ] && .venv/bin/python -c '' 2>/dev/null; then
    shift
    exec .venv/bin/python "$@"
fi

# The first that really runs (a shim of pyenv may not) and can make environments; an older one is good
# enough to fetch a newer one.
for least in 12 8; do
    for python in python3.14 python3.13 python3.12 python3 .venv-python/*/bin/python3 \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python3; do
        if "$python" -c "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, $least))" 2>/dev/null; then
            exec "$python" -m project.bootstrap "$@"
        fi
    done
done
echo "Runfolio needs Python 3.12 or newer with its venv module: install it (on Debian: apt install python3 python3-venv)." >&2
exit 1
