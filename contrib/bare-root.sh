# Sourced after setup.sh by scripts that try things in bare roots of Debian or Ubuntu; they need root and debootstrap.
#
#   bare_root RELEASE          makes the root once, below /var/tmp/up42fs-roots ($UP42FS_ROOTS), and prints where it is
#   in_bare_root ROOT WORK     runs WORK/try in an overlay of it, which keeps it bare; WORK is /shared in there

bare_root() (
    release=$1
    base=${UP42FS_ROOTS:-/var/tmp/up42fs-roots}/$release
    if [ ! -e "$base/.made" ]; then
        rm -rf "$base"
        mkdir -p "$base"
        case $release in
        noble | plucky | questing)
            # Debian has neither scripts for new releases of Ubuntu nor its keys.
            script=/usr/share/debootstrap/scripts/gutsy
            mirror=$(sed -n 's/^[[:space:]]*default_mirror \(.*archive.*\)$/\1/p' "$script" | head -n 1)
            set -- --no-check-gpg --components=main,universe --variant=minbase "$release" "$base" "$mirror" \
                "$script"
            ;;
        *)
            mirror=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
            set -- --variant=minbase "$release" "$base" "$mirror"
            ;;
        esac
        debootstrap "$@" >"$base.log" 2>&1 || { tail -n 20 "$base.log" >&2 && exit 1; }
        # Settings that reach the mirror from here reach it from there.
        cp /etc/apt/apt.conf.d/* "$base/etc/apt/apt.conf.d/" 2>/dev/null || :
        case $release in
        noble | plucky | questing)
            printf 'deb [trusted=yes] %s %s main universe\n' "$mirror" "$release" >"$base/etc/apt/sources.list"
            ;;
        *)
            rm -rf "$base/etc/apt/sources.list" "$base"/etc/apt/sources.list.d
            cp -R /etc/apt/sources.list /etc/apt/sources.list.d "$base/etc/apt/" 2>/dev/null || :
            ;;
        esac
        touch "$base/.made"
    fi
    printf '%s\n' "$base"
)

in_bare_root() {
    unshare -m --pid --fork --kill-child sh -euc '
        # Mounts that are left in there end with the first process: it has a PID namespace of its own.
        # Copies of mounts of this machine would keep these from ending.
        sed -n "s/^[^ ]* [^ ]* [^ ]* [^ ]* \\([^ ]*\\) .* - fuse.*/\\1/p" /proc/self/mountinfo |
            while read -r place; do umount -l "$(printf "%b" "$place")" || :; done
        mount -t tmpfs tmpfs "$2" -o size=6G && mkdir "$2/upper" "$2/work" "$2/root"
        mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
        mkdir -p "$2/root/shared" && mount --bind "$3" "$2/root/shared"
        mount -t proc proc "$2/root/proc" && mount --rbind /dev "$2/root/dev"
        cp /etc/resolv.conf "$2/root/etc/resolv.conf"
        # Directories of the one who calls: in there they do not exist, and mktemp fails.
        unset TMPDIR TEMP TMP XDG_RUNTIME_DIR XDG_CACHE_HOME XDG_CONFIG_HOME
        export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin
        exec chroot "$2/root" sh /shared/try
    ' sh "$1" "$(mktemp -d -p "$2")" "$2"
}
