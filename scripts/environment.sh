# Shell functions that the launcher and the tests share: a Python that is new enough, an environment with the pinned
# packages, and on Linux a fast BLAS for MLX. Sourced, never run; every function exits with 2 when the person must act.

fail() { # what happened, then the lines of the fix
    printf '❌ %s\n' "$1" >&2
    shift
    if [ "$#" -gt 0 ]; then
        printf '解决:\n' >&2
        printf '   %s\n' "$@" >&2
    fi
    exit 2
}

find_python() { # prints the first Python >= 3.11; $PYTHON, when set, is the only candidate
    local candidate
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# make_environment FOLDER REQUIREMENTS…: a virtual environment with these packages; installs again only when a
# requirements file or the Python changed, or when the last installation did not finish.
make_environment() {
    local folder=$1 python fingerprint log
    shift
    python=$(find_python) || fail "需要Python 3.11或更新版本 (当前: $(python3 --version 2>/dev/null || echo 未找到))" \
        "macOS: brew install python@3.12" "Debian/Ubuntu: sudo apt install python3 python3-venv" \
        "已安装在别处: PYTHON=/路径/python3.12 $0"
    fingerprint="$("$python" --version) $(cat "$@" | cksum)"
    if [ -x "$folder/bin/python" ] && [ "$(cat "$folder/.installed" 2>/dev/null)" = "$fingerprint" ]; then
        return
    fi
    log=$(mktemp)
    printf '   正在准备 %s …\n' "$folder"
    rm -f "$folder/.installed"
    if ! "$python" -m venv --clear "$folder" >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        fail "无法创建Python环境: $folder" "Debian/Ubuntu: sudo apt install python3-venv" "检查磁盘空间和文件夹权限"
    fi
    local arguments=()
    local file
    for file in "$@"; do arguments+=(-r "$file"); done
    if ! "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "${arguments[@]}" >"$log" 2>&1; then
        grep -v '^WARNING' "$log" | tail -n 8 >&2
        fail "依赖安装失败 (pip install，原因见上)" "检查网络后重新运行 $0" "完整日志: $log"
    fi
    printf '%s' "$fingerprint" >"$folder/.installed"
    rm -f "$log"
}

openblas() { # prints the path of an installed OpenBLAS (pthread build first), or fails
    local library
    for library in /usr/lib/*/openblas-pthread/libblas.so.3 /usr/lib64/libopenblasp.so.0 /usr/lib/libopenblas.so \
        /usr/lib/*/openblas*/libblas.so.3; do
        if [ -e "$library" ]; then
            printf '%s' "$library"
            return
        fi
    done
    return 1
}

# Linux alone: mlx-cpu carries reference BLAS, which OpenBLAS outruns about 75 times on matrix products, and compiles
# its other operations with g++ where there is one. The Python scripts use both when they are there; this puts them
# there when it may.
ensure_fast_cpu() {
    [ "$(uname -s)" = Linux ] || return 0
    local missing=() sudo=()
    openblas >/dev/null || missing+=(libopenblas0-pthread)
    command -v g++ >/dev/null || missing+=(g++)
    [ "${#missing[@]}" -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null && sudo -n true 2>/dev/null && sudo=(sudo -n)
    fi
    if command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || [ "${#sudo[@]}" -gt 0 ]; }; then
        printf '   正在安装 %s (让CPU运算更快) …\n' "${missing[*]}"
        ${sudo[@]+"${sudo[@]}"} sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@"' \
            sh "${missing[@]}" >/dev/null 2>&1 || true
    fi
    openblas >/dev/null || {
        printf '⚠️  没有找到OpenBLAS，CPU训练会慢约75倍。安装: sudo apt install libopenblas0-pthread\n' >&2
        printf '   (Fedora: sudo dnf install openblas-threads；Arch: sudo pacman -S openblas)\n' >&2
    }
    command -v g++ >/dev/null || printf '⚠️  没有找到g++，CPU训练会慢约两成。安装: sudo apt install g++\n' >&2
}
