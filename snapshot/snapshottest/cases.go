package snapshottest

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A change is one thing that a step can do to a file system. What it leaves must be the same, file by file, when the
// layer that was made of it is mounted and when it is read.
type change struct {
	name string
	base func(r Root) // makes the layer below
	do   func(r Root)
	want string // the names in the layer, in order; of a whiteout the name with a "-"
	many bool   // too many names to tell
	ids  bool   // needs more than one user ID
	root bool   // needs to be root of the machine
}

var moment = time.Unix(1_600_000_000, 123_456_789)

// capability is CAP_NET_BIND_SERVICE, permitted and effective, as the kernel keeps it (version 2).
const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

var changes = []change{
	{name: "nothing", base: func(r Root) { r.File("a/b", "1") }, do: func(r Root) {}, want: ""},
	{
		name: "new files",
		base: func(r Root) { r.File("old/x", "1") },
		do: func(r Root) {
			r.File("new/deep/er/file", "2")
			r.File("old/y", "")
			r.File("z", strings.Repeat("abc", 100_000))
			r.Times("z", moment)
		},
		want: "new new/deep new/deep/er new/deep/er/file old old/y z",
	},
	{
		name: "changed files",
		base: func(r Root) { r.File("d/a", "1"); r.File("d/b", "1"); r.File("d/c", "1") },
		do:   func(r Root) { r.Write("d/a", "22", 0); r.Truncate("d/b", 0) },
		want: "d d/a d/b",
	},
	{
		name: "removed",
		base: func(r Root) { r.File("d/a", "1"); r.File("d/b", "1"); r.File("e/f/g", "1"); r.File("h", "1") },
		do:   func(r Root) { r.Remove("d/a"); r.Remove("e"); r.Remove("h") },
		want: "d -d/a -e -h",
	},
	{
		name: "made and removed",
		base: func(r Root) { r.Dir("d"); r.Times("d", moment) },
		do:   func(r Root) { r.File("d/a", "1"); r.Remove("d/a"); r.Times("d", moment) },
		want: "",
	},
	{
		name: "modes",
		base: func(r Root) { r.File("a", "1"); r.File("b", "1"); r.Dir("c"); r.Dir("d") },
		do: func(r Root) {
			r.Chmod("a", 0o4755)
			r.Chmod("b", 0o2711)
			r.Chmod("c", 0o1777)
			r.Chmod("d", 0)
		},
		want: "a b c d",
	},
	{
		name: "root",
		base: func(r Root) { r.File("a", "1") },
		do:   func(r Root) { r.Chmod(".", 0o711) },
		want: ".",
	},
	{
		name: "owners", ids: true,
		base: func(r Root) { r.File("a", "1"); r.Dir("d"); r.Symlink("a", "l") },
		do: func(r Root) {
			r.Chown("a", 33, 44)
			r.Chmod("a", 0o4755)
			r.Chown("d", 1000, 1000)
			r.Chown("l", 7, 7)
			r.File("d/new", "1")
			r.Chown("d/new", 1000, 0)
		},
		want: "a d d/new l",
	},
	{
		name: "types",
		base: func(r Root) { r.File("f", "1") },
		do: func(r Root) {
			r.Symlink("../../outside", "l")
			r.Symlink(strings.Repeat("x", 4000), "long")
			r.Times("l", moment)
			r.Mknod("p", unix.S_IFIFO|0o640, 0, 0)
			r.Mknod("s", unix.S_IFSOCK|0o755, 0, 0)
		},
		want: "l long p",
	},
	{
		name: "devices", root: true,
		base: func(r Root) { r.Mknod("gone", unix.S_IFCHR|0o600, 1, 5); r.Mknod("stays", unix.S_IFBLK|0o600, 7, 300) },
		do:   func(r Root) { r.Remove("gone"); r.Mknod("null", unix.S_IFCHR|0o666, 1, 3); r.Chmod("null", 0o666) },
		want: "-gone null",
	},
	{
		name: "other type",
		base: func(r Root) {
			r.File("file", "1")
			r.File("dir/a", "1")
			r.File("dir2/a/b", "1")
			r.Symlink("x", "link")
			r.File("sock", "1")
		},
		do: func(r Root) {
			r.Remove("file")
			r.File("file/now/a/dir", "2")
			r.Remove("dir")
			r.File("dir", "2")
			r.Remove("dir2")
			r.Symlink("dir", "dir2")
			r.Remove("link")
			r.Dir("link")
			r.Remove("sock")
			r.Mknod("sock", unix.S_IFSOCK|0o755, 0, 0)
		},
		want: "dir dir2 file file/now file/now/a file/now/a/dir link -sock",
	},
	{
		name: "directory made again",
		base: func(r Root) {
			for _, name := range []string{"d/a", "d/b", "d/sub/x", "d/sub/y", "d/same"} {
				r.File(name, name)
				r.Times(name, moment)
			}
			r.Times("d/sub", moment)
			r.Times("d", moment)
		},
		do: func(r Root) {
			r.Remove("d")
			r.File("d/b", "other")
			r.File("d/c", "new")
			r.File("d/sub/y", "d/sub/y")
			r.Times("d/sub/y", moment)
			r.Times("d/sub", moment)
			r.File("d/same", "d/same")
			r.Times("d/same", moment)
		},
		want: "d -d/a d/b d/c d/sub -d/sub/x",
	},
	{
		name: "emptied directory",
		base: func(r Root) { r.File("d/a", "1"); r.File("d/b/c", "1") },
		do:   func(r Root) { r.Remove("d"); r.Dir("d") },
		want: "d -d/a -d/b",
	},
	{
		name: "moved",
		base: func(r Root) { r.File("d/a", "1"); r.File("d/b/c", "2"); r.File("f", "3") },
		do:   func(r Root) { r.Move("d", "e"); r.Move("f", "e/f") },
		want: "-d e e/a e/b e/b/c e/f -f",
	},
	{
		name: "moved to where another was",
		base: func(r Root) {
			for _, name := range []string{"a", "b", "d1", "d2"} {
				r.File(name+"/version", "of "+name[len(name)-1:])
				r.Times(name+"/version", moment)
				r.Times(name, moment)
			}
		},
		do: func(r Root) {
			r.Remove("d1")
			r.Move("d2", "d1")
			r.Move("a", "aside")
			r.Move("b", "a")
			r.Move("aside", "b")
		},
		want: "a a/version b b/version d1 d1/version -d2",
	},
	{
		name: "hard links",
		base: func(r Root) { r.Dir("d") },
		do: func(r Root) {
			r.File("d/one", "content")
			r.Link("d/one", "two")
			r.Link("d/one", "a-three")
			r.Symlink("t", "sym")
			r.Link("sym", "sym2")
		},
		want: "a-three d d/one sym sym2 two",
	},
	{
		// In a user namespace overlayfs shows the two as two, until the next mount.
		name: "hard link to what lies below", root: true,
		base: func(r Root) { r.File("below", "1") },
		do:   func(r Root) { r.Link("below", "with-below") },
		want: "below with-below",
	},
	{
		name: "equal to what lies below",
		base: func(r Root) {
			for _, name := range []string{"d/touched", "d/rewritten", "d/chmod", "d/opened", "d/renamed"} {
				r.File(name, name)
			}
			r.Symlink("x", "d/link")
			r.Times("d/link", moment)
			r.Times("d", moment)
		},
		do: func(r Root) {
			before := r.ModTime("d/touched")
			r.Times("d/touched", time.Now())
			r.Times("d/touched", before)
			before = r.ModTime("d/rewritten")
			r.File("d/rewritten", "d/rewritten")
			r.Times("d/rewritten", before)
			r.Chmod("d/chmod", 0o600)
			r.Chmod("d/chmod", 0o644)
			r.Write("d/opened", "", 0)
			before = r.ModTime("d/renamed")
			r.File("d/new", "d/renamed")
			r.Times("d/new", before)
			r.Move("d/new", "d/renamed")
			r.Remove("d/link")
			r.Symlink("x", "d/link")
			r.Times("d/link", moment)
			r.Chmod("d", 0o700)
			r.Chmod("d", 0o755)
			r.Times("d", moment)
		},
		want: "",
	},
	{
		name: "same size and time, other content",
		base: func(r Root) { r.File("a", "one"); r.Times("a", moment) },
		do:   func(r Root) { r.File("a", "two"); r.Times("a", moment) },
		want: "a",
	},
	{
		name: "attributes",
		base: func(r Root) {
			r.File("a", "1")
			r.File("b", "1")
			r.Xattr("b", "user.old", "x")
			r.File("same", "1")
			r.Xattr("same", "user.s", "x")
		},
		do: func(r Root) {
			r.Xattr("a", "user.name", "value\x00\xff")
			r.Xattr("a", "user.empty", "")
			r.NoXattr("b", "user.old")
			r.Dir("d")
			r.Xattr("d", "user.dir", strings.Repeat("long", 300))
			r.File("cap", "1")
			r.Xattr("cap", "security.capability", capability)
			r.Chmod("same", 0o600)
			r.Chmod("same", 0o644)
		},
		want: "a b cap d",
	},
	{
		name: "sparse",
		do: func(r Root) {
			r.Write("s", "begin", 0)
			r.Write("s", "middle", 3<<20)
			r.Truncate("s", 10<<20)
			r.File("zero", "")
			r.Truncate("zero", 1<<20)
		},
		want: "s zero",
	},
	{
		name: "names",
		do: func(r Root) {
			r.File("\xff\xfe not utf-8", "1")
			r.File("new\nline", "1")
			r.File(strings.Repeat("n", 255), "1")
			r.File("-", "1")
			r.File(".whx", "1")
			r.File("a b/ü", "1")
			r.File("a!/x", "1")
			r.File("a/x", "1")
		},
		want: "- .whx a a/x a|b a|b/ü a! a!/x new\nline " + strings.Repeat("n", 255) + " \xff\xfe|not|utf-8",
	},
	{
		name: "deep", many: true,
		do: func(r Root) { r.File(strings.Repeat("d/", 500)+"f", "1") },
	},
	{
		name: "wide", many: true,
		base: func(r Root) {
			for i := range 300 {
				r.File(fmt.Sprintf("d/%d", i), "1")
			}
		},
		do: func(r Root) {
			for i := range 150 {
				r.Remove(fmt.Sprintf("d/%d", 2*i))
				r.File(fmt.Sprintf("d/n%d", i), fmt.Sprint(i))
			}
		},
	},
}
