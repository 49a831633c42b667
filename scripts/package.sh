#!/bin/sh
# Makes Debian packages of the archives that release.sh has made: the program, its manual and what completes its command lines. The same
# archives give the same bytes with the same version of dpkg.
# usage: package.sh VERSION SECONDS DIR   (DIR holds the archives; SECONDS since 1970: the time that all files get)
set -eu
version=$1
export SOURCE_DATE_EPOCH="$2"
cd "$3"
export LC_ALL=C
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
# A version of Debian begins with a digit, and has no hyphen but that of its own revision.
deb=$(echo "${version#v}" | tr -- - +)
case $deb in [0-9]*) ;; *) deb=0+$deb ;; esac
for arch in amd64 arm64; do
	mkdir "$stage/unpacked-$arch"
	tar -C "$stage/unpacked-$arch" --strip-components=1 -xzf "forge-$version-linux-$arch.tar.gz"
done
self=$stage/unpacked-$(dpkg --print-architecture)/forge # it writes its manual
for arch in amd64 arm64; do
	root=$stage/$arch unpacked=$stage/unpacked-$arch
	mkdir -p "$root/DEBIAN" "$root/usr/bin" "$root/usr/share/man/man1" "$root/usr/share/doc/forge" \
		"$root/usr/share/bash-completion/completions" "$root/usr/share/zsh/vendor-completions" "$root/usr/share/fish/vendor_completions.d"
	cp "$unpacked/forge" "$root/usr/bin/forge"
	"$self" __man "$root/usr/share/man/man1"
	gzip -9n "$root"/usr/share/man/man1/*
	"$self" completion bash >"$root/usr/share/bash-completion/completions/forge"
	"$self" completion zsh >"$root/usr/share/zsh/vendor-completions/_forge"
	"$self" completion fish >"$root/usr/share/fish/vendor_completions.d/forge.fish"
	cp "$unpacked/LICENSE" "$root/usr/share/doc/forge/copyright"
	cp -r "$unpacked/licenses" "$unpacked/README.md" "$unpacked/SECURITY.md" "$root/usr/share/doc/forge"
	gzip -9nc "$unpacked/CHANGELOG.md" >"$root/usr/share/doc/forge/changelog.gz"
	chmod -R u=rwX,go=rX "$root"
	cat >"$root/DEBIAN/control" <<CONTROL
Package: forge
Version: $deb
Architecture: $arch
Maintainer: forge <https://github.com/forge-build/forge>
Installed-Size: $(du -k --apparent-size -s "$root/usr" | cut -f1)
Recommends: ca-certificates, git, uidmap, passt
Section: admin
Priority: optional
Homepage: https://github.com/forge-build/forge
Description: container image builder and runner without a daemon
 forge builds container images from Dockerfiles, keeps them, moves them to and
 from registries and runs them, as root or as an ordinary user.
CONTROL
	find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	dpkg-deb --build --root-owner-group -Zxz "$root" "forge_${deb}_$arch.deb" >/dev/null
	sha256sum "forge_${deb}_$arch.deb"
done
