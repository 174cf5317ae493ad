#!/usr/bin/env bash
# Builds and tests on every supported Python of this machine besides the one of .venv. torch is not
# installed there, so the tests that need it are left out.
set -euo pipefail
here=$(pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
own=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')

for version in 3.11 3.12 3.13 3.14; do
    [ "$version" = "$own" ] && continue
    python=
    for candidate in "python$version" "$HOME"/.pyenv/versions/"$version".*/bin/python; do
        if "$candidate" -c 'import venv' 2>/dev/null; then python=$candidate; fi
    done
    if [ -z "$python" ]; then
        echo "Python $version: not on this machine"
        continue
    fi
    "$python" -m venv "$work/$version"
    "$work/$version/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --config-settings cmake.define.PPO_FAST_CUDA=OFF ".[test]"
    # Away from the sources, so that the installed package is what is imported.
    (cd "$work" && "$work/$version/bin/python" -m pytest -q -c "$here/pyproject.toml" -m "not slow" \
        -p no:cacheprovider "$here/tests")
    echo "Python $version: passed"
done
