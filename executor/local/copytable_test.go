package local

import "testing"

// TestCopy has a test for what docs/copy.md tells of COPY; what is BuildKit's and surprising is meant so.
func TestCopy(t *testing.T) {
	t.Parallel()
	const passwd = "etc/; etc/group =staff:x:50:; etc/passwd =app:x:1000:1001::/:"
	for _, test := range []copyTest{
		// Destinations.
		{"file to file", "", "a =1", "COPY a /b", "b =1"},
		{"file to slash", "", "a =1", "COPY a /d/", "d/; d/a =1"},
		{"file to dot", "", "a =1", "COPY a /d/.", "d/; d/a =1"},
		{"file to root", "", "a =1", "COPY a /", "a =1"},
		{"file to existing directory", "d/", "a =1", "COPY a /d", "d/; d/a =1"},
		{"file to a path to be made", "", "a =1", "COPY a /x/y/z", "x/; x/y/; x/y/z =1"},
		{"file with a trailing slash", "", "a =1", "COPY a/ /b", "b =1"},
		{"over a file", "b =old 600 7:7", "a =1 755", "COPY a /b", "b =1 755"},
		{"clamped", "", "a =1", "COPY a /../../b", "b =1"},
		{"two to a directory", "", "a =1; b =2", "COPY a b /d/", "d/; d/a =1; d/b =2"},
		{"two to one name: the last remains", "", "a =1; b =2", "COPY a b /d", "d =2"},
		{"source clamped", "", "a =1", "COPY ../../a /b", "b =1"},
		{"destination below a file", "f =x", "a =1", "COPY a /f/b", "error: not a directory"},
		{"destination is a file but should be a directory", "f =x", "a =1", "COPY a /f/", "error: not a directory"},

		// Directories.
		{"contents", "", "d/x =1; d/s/y =2; d/s/ 700", "COPY d /t", "t/; t/s/ 700; t/s/y =2; t/x =1"},
		{"all", "", "a =1; d/x =2", "COPY . /", "a =1; d/; d/x =2"},
		{"its mode is not for the destination", "", "d/ 700; d/x =1", "COPY d /t/", "t/; t/x =1"},
		{"nor for an existing one", "t/ 711 5:5", "d/ 700; d/x =1", "COPY d /t", "t/ 711 5:5; t/x =1"},
		{"sub-directories are overwritten on merge", "t/s/ 711 5:5; t/s/old =0", "d/s/ 700; d/s/x =1", "COPY d /t", "t/; t/s/ 700; t/s/old =0; t/s/x =1"},
		{"empty directory", "", "d/", "COPY d /t", "t/"},
		{"modes are kept", "", "d/x =1 4755; d/y =2 2711; d/z/ 1777", "COPY d /", "x =1 4755; y =2 2711; z/ 1777"},
		{"links in it are kept", "", "d/l ->/etc/passwd; d/m ->x; d/x =1", "COPY d /", "l ->/etc/passwd; m ->x; x =1"},
		{"fifos are themselves", "", "d/p |", "COPY d /", "p |"},
		{"hard links of one directory", "", "d/a =1 #1; d/s/b =1 #1; d/c =1", "COPY d /t", "t/; t/a =1 #1; t/c =1; t/s/; t/s/b =1 #1"},
		{"hard links of two sources are two files", "", "d/a =1 #1; e/b =1 #1", "COPY d e /t", "t/; t/a =1; t/b =1"},

		// Merge conflicts.
		{"directory onto file", "t/s =0", "d/s/x =1", "COPY d /t", "error: cannot copy to non-directory: /t/s"},
		{"directory onto link to directory", "t/s ->/r; r/", "d/s/x =1", "COPY d /t", "error: cannot copy to non-directory: /t/s"},
		{"file onto directory", "t/s/", "d/s =1", "COPY d /t", "error: cannot replace to directory /t/s with file"},
		{"link onto directory", "t/s/", "d/s ->x", "COPY d /t", "error: cannot replace to directory /t/s with file"},
		{"file onto link in a directory", "t/s ->/r; r =0", "d/s =1", "COPY d /t", "r =0; t/; t/s =1"},
		{"directory onto file as destination", "t =0", "d/x =1", "COPY d /t", "error: not a directory"},

		// Links.
		{"named source links are followed", "", "l ->d/x; d/x =1", "COPY l /", "l =1"},
		{"and in the middle", "", "l ->d; d/x =1", "COPY l/x /", "x =1"},
		{"link to a directory", "", "l ->d; d/x =1", "COPY l /t", "t/; t/x =1"},
		{"absolute link in the context", "", "l ->/d/x; d/x =1", "COPY l /", "l =1"},
		{"link out of the context", "", "l ->../../../../../etc/passwd", "COPY l /", `error: "/l": not found`},
		{"destination link to a directory", "l ->r/s; r/s/", "a =1", "COPY a /l/", "l ->r/s; r/; r/s/; r/s/a =1"},
		{"destination link to a file", "l ->/f; f =0 600", "a =1", "COPY a /l", "f =1; l ->/f"},
		{"dangling destination link", "l ->/n/f", "a =1", "COPY a /l", "l ->/n/f; n/; n/f =1"},
		{"destination link with ..", "d/l ->../../../r; r/", "a =1", "COPY a /d/l/", "d/; d/l ->../../../r; r/; r/a =1"},
		{"destination link in the middle", "l ->r; r/", "a =1", "COPY a /l/x/y", "l ->r; r/; r/x/; r/x/y =1"},
		{"destination loop", "l ->l", "a =1", "COPY a /l/x", "error: too many"},

		// Missing and wildcards.
		{"missing", "", "a =1", "COPY x /", `error: "/x": not found`},
		{"missing below a file", "", "a =1", "COPY a/x /", `error: "/a/x": not found`},
		{"no match", "b =0", "a =1", "COPY *.txt /", "b =0"},
		{"no match and a file", "", "a =1", "COPY x* a /d/", "d/; d/a =1"},
		{"star", "", "a.c =1; b.c =2; d.h =3; .c =4", "COPY *.c /d/", "d/; d/.c =4; d/a.c =1; d/b.c =2"},
		{"class", "", "a =1; b =2; c =3", "COPY [^b] /d/", "d/; d/a =1; d/c =3"},
		{"question mark", "", "a1 =1; a2 =2; a33 =3", "COPY a? /d/", "d/; d/a1 =1; d/a2 =2"},
		{"two stars are one", "", "d/a.c =1; d/e/b.c =2; x.c =3", "COPY **/*.c /t/", "t/; t/a.c =1"},
		{"matched directories spill", "", "d1/a =1; d2/b =2", "COPY d* /t/", "t/; t/a =1; t/b =2"},
		{"matched links are followed", "", "l1 ->x/a; x/a =1", "COPY l* /t/", "t/; t/l1 =1"},
		{"links before a wildcard", "", "l ->x; x/a =1", "COPY l/* /t/", "t/; t/a =1"},
		{"literal bracket", "", "a[1] =1", "COPY a[[]1] /t/", "t/; t/a[1] =1"},
		{"bad pattern", "", "a =1", "COPY [a /t/", "error: syntax error in pattern"},

		// Owners.
		{"ids", "", "a =1; d/b =2", "COPY --chown=5:6 . /t/", "t/ 5:6; t/a =1 5:6; t/d/ 5:6; t/d/b =2 5:6"},
		{"one id is both", "", "a =1", "COPY --chown=5 a /", "a =1 5:5"},
		{"existing parents are not chowned", "x/", "a =1", "COPY --chown=5 a /x/y/a", "x/; x/y/ 5:5; x/y/a =1 5:5"},
		{"names", passwd, "a =1", "COPY --chown=app a /x/", passwd + "; x/ 1000:1001; x/a =1 1000:1001"},
		{"user and group name", passwd, "a =1", "COPY --chown=app:staff a /", "a =1 1000:50; " + passwd},
		{"unknown group", passwd, "a =1", "COPY --chown=app:nogroup a /", "a =1 1000:1001; " + passwd},
		{"user name and group id", passwd, "a =1", "COPY --chown=app:9 a /", "a =1 1000:9; " + passwd},
		{"unknown name", passwd, "a =1", "COPY --chown=nobody:nogroup a /", "a =1; " + passwd},
		{"name on scratch", "", "a =1", "COPY --chown=app a /", "a =1"},
		{"unknown user of a group", passwd, "a =1", "COPY --chown=nobody:staff a /", "a =1 0:50; " + passwd},
		{"name of an entry without a number", "etc/; etc/passwd =app:x:many:7::/:", "a =1", "COPY --chown=app a /", "a =1; etc/; etc/passwd =app:x:many:7::/:"},
		{"names in a linked file", "etc/; etc/passwd ->/p; p =app:x:5:6::/:", "a =1", "COPY --chown=app a /", "a =1 5:6; etc/; etc/passwd ->/p; p =app:x:5:6::/:"},
		{"names in what is no file", "etc/; etc/passwd/", "a =1", "COPY --chown=app a /", "error: /etc/passwd: is not a regular file"},
		{"root", passwd, "a =1", "COPY --chown=root:7 a /", "a =1 0:7; " + passwd},
		{"root is 0 whatever passwd says", "etc/; etc/passwd =root:x:5:5::/:", "a =1", "COPY --chown=root a /", "a =1; etc/; etc/passwd =root:x:5:5::/:"},
		{"too large a number is a name", "", "a =1", "COPY --chown=4294967296 a /", "a =1"},
		{"empty group", "", "a =1", "COPY --chown=5: a /", "a =1 5:5"},
		{"links are chowned", "", "d/l ->x", "COPY --chown=5 d /", "l ->x 5:5"},

		// Modes.
		{"octal for all, parents too", "", "a =1; d/b =2", "COPY --chmod=0600 a d /new/x/", "new/ 600; new/x/ 600; new/x/a =1 600; new/x/b =2 600"},
		{"octal for directories in it", "", "d/s/b =2", "COPY --chmod=755 d /", "s/; s/b =2 755"},
		{"octal does not change what exists", "x/ 711", "a =1", "COPY --chmod=0600 a /x/", "x/ 711; x/a =1 600"},
		{"symbolic is for each file", "", "d/s/ 700; d/s/b =2 600; d/x =1 700", "COPY --chmod=u=rwX,go=rX d /new/", "new/; new/s/; new/s/b =2; new/x =1 755"},
		{"links have none", "", "d/l ->x; d/x =1", "COPY --chmod=600 d /t", "t/ 600; t/l ->x; t/x =1 600"},
		{"too much", "", "a =1", "COPY --chmod=10000 a /", "error: invalid chmod parameter"},

		// --exclude is relative to each matched source.
		{"exclude", "", "d/a =1; d/b =2; d/s/b =3", "COPY --exclude=b d /t", "t/; t/a =1; t/s/; t/s/b =3"},
		{"exclude everywhere", "", "d/a =1; d/b =2; d/s/b =3", "COPY --exclude=**/b d /t", "t/; t/a =1; t/s/"},
		{"matched files are not excluded", "", "b =1; d/b =2; d/c =3", "COPY --exclude=b* * /d/", "d/; d/b =1; d/c =3"},
		{"exclude a directory", "", "d/s/b =3; d/a =1", "COPY --exclude=s d /t", "t/; t/a =1"},
		{"exclude and include again", "", "d/s/ 700; d/s/b =3; d/s/c =4; d/a =1", "COPY --exclude=s --exclude=!s/c d /t", "t/; t/a =1; t/s/ 700; t/s/c =4"},
		{"exclude all", "", "d/s/b =3; d/a =1", "COPY --exclude=* d /t", "t/"},

		// --parents.
		{"parents", "", "d/ 700; d/s/x =1; d/s/y =2", "COPY --parents d/s/x /t/", "t/; t/d/ 700; t/d/s/; t/d/s/x =1"},
		{"parents of a directory", "", "d/s/x =1; d/s/y =2", "COPY --parents d/s /t/", "t/; t/d/; t/d/s/; t/d/s/x =1; t/d/s/y =2"},
		{"pivot", "", "d/s/e/x =1; d/y =2", "COPY --parents d/./s/e/x /t/", "t/; t/s/; t/s/e/; t/s/e/x =1"},
		{"parents with any depth", "", "a.c =1; d/b.c =2; d/e/c.c =3; d/e/h =4", "COPY --parents **/*.c /t/", "t/; t/a.c =1; t/d/; t/d/b.c =2; t/d/e/; t/d/e/c.c =3"},
		{"parents with star", "", "d/a/x =1; d/b/x =2; d/c/y =3", "COPY --parents d/*/x /t/", "t/; t/d/; t/d/a/; t/d/a/x =1; t/d/b/; t/d/b/x =2"},
		{"parents missing", "", "d/x =1", "COPY --parents d/y /t/", `error: "/d/y": not found`},
		{"parents are not seen through links", "", "l ->d; d/x =1", "COPY --parents l/x /t/", `error: "/l/x": not found`},
		{"nor is the pivot", "", "l ->d; d/x =1", "COPY --parents l/./x /t/", `error: "/l/x": not found`},
		{"parents of a link", "", "d/l ->x; d/x =1", "COPY --parents d/l /t/", "t/; t/d/; t/d/l ->x"},
		{"parents without match", "", "d/x =1", "COPY --parents d/y* /t/", "t/"},
		{"parents' mode on existing", "t/d/ 711 5:5", "d/ 700; d/x =1", "COPY --parents d/x /t/", "t/; t/d/ 700 5:5; t/d/x =1"},
		{"parents and exclude", "", "d/x =1; d/y =2", "COPY --parents --exclude=d/y d /t/", "t/; t/d/; t/d/x =1"},
		{"parents of everything", "", "d/x =1", "COPY --parents . /t/", "t/; t/d/; t/d/x =1"},

		// --link does not see what lies below.
		{"link", "x =0", "a =1", "COPY --link a /d/", "d/; d/a =1; x =0"},
		{"link replaces a directory by a file", "etc/passwd =0", "a =1", "COPY --link a /etc", "etc =1"},
		{"link replaces a link by a directory", "l ->r; r/", "a =1", "COPY --link a /l/", "l/; l/a =1; r/"},
		{"link makes parents root's", "d/ 700 5:5; d/x =0", "a =1", "COPY --link a /d/", "d/; d/a =1; d/x =0"},
		{"link with ids", "", "a =1", "COPY --link --chown=5 a /d/", "d/ 5:5; d/a =1 5:5"},
		{"link with chmod does see it", "l ->r; r/", "a =1", "COPY --link --chmod=600 a /l/", "l ->r; r/; r/a =1 600"},

		// Stages.
		{"owners and xattrs are kept", "", "a =1 5:6 user.k:v; d/b =2 7:8 security.capability:cap", "COPY --from=x / /", "a =1 5:6 user.k:v; d/; d/b =2 7:8 security.capability:cap"},
		{"chown of a stage", "", "a =1 5:6", "COPY --from=x --chown=1:2 a /", "a =1 1:2"},
		{"devices", "", "d/n c1,3; d/p |", "COPY --from=x d /", "n c1,3; p |"},
		{"hard links of a stage", "", "d/a =1 #1; d/b =1 #1", "COPY --from=x d /", "a =1 #1; b =1 #1"},
		{"links of a stage", "", "l ->/d; d/a =1", "COPY --from=x /l/a /", "a =1"},
		{"missing in a stage", "", "a =1", "COPY --from=x /b /", `error: "/b": not found`},
		{"xattrs are merged on directories", "d/s/ user.a:1", "x/s/ user.b:2", "COPY --from=x x /d", "d/; d/s/ user.a:1 user.b:2"},

		// Heredocs.
		{"heredoc", "", "", "COPY <<f /x", "x =here\n"},
		{"heredoc to directory", "", "", "COPY <<f <<g /x/", "x/; x/f =here\n; x/g =here\n"},
		{"heredoc with flags", "", "", "COPY --chmod=755 --chown=5 <<f /", "f =here\n 755 5:5"},
		{"heredoc with a slash", "", "", "COPY <<a/b /x", "error: a/b"},

		// Names are bytes; those that would be whiteouts are refused.
		{"bytes", "", "d/\xff\xfe =1", "COPY d /", "\xff\xfe =1"},
		{"whiteout", "x =0", "d/.wh.x =1", "COPY d /", "error: .wh.x"},
		{"odd whiteout", "", "d/.wh.. =1", "COPY d /", "error: .wh.."},
	} {
		t.Run(test.name, test.run)
	}
}
