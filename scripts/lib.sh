# shellcheck shell=bash
# lib.sh - functions that the scripts share: packages, builds, ranks. Source it with the repository as working folder.

# shellcheck disable=SC2034 # scripts that source this file use the packages
build_packages=(meson ninja-build pkg-config gcc libc6-dev libopenmpi-dev openmpi-bin libdnnl-dev libyaml-dev
    libzstd-dev libarchive-dev libjpeg62-turbo-dev libpng-dev libwebp-dev zlib1g-dev libxxhash-dev libjansson-dev)
# shellcheck disable=SC2034
test_packages=(python3 python3-numpy python3-pil zstd clang clang-format libclang-rt-dev libomp-dev shellcheck)
# shellcheck disable=SC2034
slurm_packages=(slurm-wlm slurm-client munge iproute2)

# The programs of the packages come first, so that compiler, mpirun and libraries match.
export PATH="/usr/bin:/bin:$PATH"

die() {
    echo "error: $*" >&2
    exit 1
}

missing_packages() {
    local package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
    done
}

# install_packages PURPOSE PACKAGE...: lists the missing packages and their purpose, then installs them together.
install_packages() {
    local why=$1 missing as_root=()
    shift
    command -v dpkg-query >/dev/null || die "this is not Debian: install the equivalents of: $*"
    mapfile -t missing < <(missing_packages "$@")
    if [ ${#missing[@]} = 0 ]; then
        echo "All Debian packages needed $why are installed."
        return
    fi
    echo "These Debian packages are needed $why and will be installed with apt-get:"
    printf '    %s\n' "${missing[*]}"
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "not root and no sudo: run as root: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    "${as_root[@]}" apt-get update -q || echo "warning: apt-get update failed, going on with the old package lists" >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" ||
        die "apt-get could not install the packages above"
}

# configure FOLDER OPTION...: meson setup, anew if the folder was set up with other options. Without options any
# build folder will do.
configure() {
    local folder=$1 wanted
    shift
    wanted="${CC:-} $*"
    if [ -f "$folder/build.ninja" ] && { [ $# = 0 ] || [ "$(cat "$folder/set-up-as" 2>/dev/null)" = "$wanted" ]; }; then
        return
    fi
    rm -rf "$folder"
    meson setup "$folder" "$@" && echo "$wanted" >"$folder/set-up-as"
}

# program FOLDER NAME: the path of a built program.
program() {
    local path
    for path in "$1"/*/"$2"; do
        if [ -x "$path" ] && [ -f "$path" ]; then
            echo "$path"
            return
        fi
    done
    die "$1 holds no program $2"
}

# on_ranks N COMMAND...: mpirun, as root too, and where there are fewer cores than ranks.
on_ranks() {
    local ranks=$1 options=()
    shift
    if mpirun --version 2>/dev/null | grep -q 'Open MPI'; then
        options=(--oversubscribe --bind-to none)
        if [ "$(id -u)" = 0 ]; then
            export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
        fi
    fi
    mpirun "${options[@]}" -np "$ranks" "$@"
}
