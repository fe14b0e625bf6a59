# shellcheck shell=bash
# Sourced after machine.sh: Python environments of our own below the target folder.

# python_environment REQUIREMENTS: prints the folder of an environment with them; made anew when the file changed.
python_environment() {
    local requirements=$1 folder python
    # Debian's own interpreter where there is one, so that the environment outlives other people's pyenvs.
    python=/usr/bin/python3
    [[ -x $python ]] || need python3=python3
    "$python" -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
    folder=$(target_folder)/venv/$(sha256sum "$requirements" | cut -c1-16)
    if [[ ! -e $folder/complete ]]; then
        say "making a Python environment from $requirements"
        rm -rf "$folder"
        "$python" -m venv "$folder" >&2
        "$folder/bin/pip" install -q --disable-pip-version-check wheel setuptools >&2
        "$folder/bin/pip" install -q --disable-pip-version-check -r "$requirements" >&2
        touch "$folder/complete"
    fi
    printf '%s' "$folder"
}
