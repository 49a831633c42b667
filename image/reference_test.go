package image

import (
	"cmp"
	"strings"
	"testing"
)

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

const (
	hexA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digA = "sha256:" + hexA
)

func TestParseReference(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ in, want string }{
		{"alpine", "docker.io/library/alpine:latest"},
		{"alpine:3.20", "docker.io/library/alpine:3.20"},
		{"user/app", "docker.io/user/app:latest"},
		{"a/b/c:t", "docker.io/a/b/c:t"},
		{"localhost:5000/a/b:c", "localhost:5000/a/b:c"},
		{"localhost/a", "localhost/a:latest"},
		{"localhost:5000", "docker.io/library/localhost:5000"},
		{"index.docker.io/alpine", "docker.io/library/alpine:latest"},
		{"docker.io/alpine", "docker.io/library/alpine:latest"},
		{"Reg/a", "Reg/a:latest"},
		{"ghcr.io/o/r@" + digA, "ghcr.io/o/r@" + digA},
		{"ghcr.io/o/r:v1@" + digA, "ghcr.io/o/r:v1@" + digA},
		{"[::1]:5000/a", "[::1]:5000/a:latest"},
		{"[fe80::1]/a", "[fe80::1]/a:latest"},
		{"a__b/c-----d.e_f", "docker.io/a__b/c-----d.e_f:latest"},
		{"a:_x.Y-z", "docker.io/library/a:_x.Y-z"},
		{"x/" + strings.Repeat("a", 253), "docker.io/x/" + strings.Repeat("a", 253) + ":latest"},
		{"a:" + strings.Repeat("t", 128), "docker.io/library/a:" + strings.Repeat("t", 128)},

		{"Alpine", `reference "Alpine": repository must be lower case`},
		{"a/B", `reference "a/B": repository must be lower case`},
		{"", `reference "": is empty`},
		{"@" + digA, `reference "@` + digA + `": has no repository`},
		{":x", `reference ":x": has no repository`},
		{hexA, `reference "` + hexA + `": 64 hexadecimal digits are an image ID, not a name`},
		{"..", `reference "..": holds ".."`},
		{"a/../b", `reference "a/../b": holds ".."`},
		{"../a", `reference "../a": holds ".."`},
		{"reg.io/../../x", `reference "reg.io/../../x": holds ".."`},
		{"a:x..y", `reference "a:x..y": holds ".."`},
		{"a//b", `reference "a//b": repository has an empty component`},
		{"/a", `reference "/a": repository has an empty component`},
		{"a/", `reference "a/": repository has an empty component`},
		{"a..b", `reference "a..b": holds ".."`},
		{"a___b", `reference "a___b": repository component "a___b" has a misplaced separator`},
		{"a.-b", `reference "a.-b": repository component "a.-b" has a misplaced separator`},
		{"a-", `reference "a-": repository component "a-" has a misplaced separator`},
		{"-a", `reference "-a": repository component "-a" has a misplaced separator`},
		{"a b", `reference "a b": repository holds " "`},
		{"a\x00", `reference "a\x00": repository holds "\x00"`},
		{"a:", `reference "a:": tag is empty`},
		{"a:-x", `reference "a:-x": tag "-x" may hold letters, digits, _, . and -, and must begin with one of the first three`},
		{"a:b:c", `reference "a:b:c": repository holds ":"`},
		{"h:x/a", `reference "h:x/a": registry has no valid port`},
		{"h:/a", `reference "h:/a": registry has no valid port`},
		{"-h.io/a", `reference "-h.io/a": registry "-h.io" is no host name`},
		{"[::1/a", `reference "[::1/a": registry has no valid IPv6 address`},
		{"a@sha256:abc", `reference "a@sha256:abc": digest "sha256:abc": sha256 has 64 lower case hexadecimal digits`},
		{"a@sha256:" + strings.ToUpper(hexA), `reference "a@sha256:` + strings.ToUpper(hexA) + `": digest "sha256:` + strings.ToUpper(hexA) + `": sha256 has 64 lower case hexadecimal digits`},
		{"a@md5:" + hexA, `reference "a@md5:` + hexA + `": digest "md5:` + hexA + `": only sha256 is supported`},
		{"a@", `reference "a@": digest "": only sha256 is supported`},
		{"x/" + strings.Repeat("a", 254), `reference "x/` + strings.Repeat("a", 254) + `": repository has more than 255 characters`},
		{"a:" + strings.Repeat("t", 129), `reference "a:` + strings.Repeat("t", 129) + `": tag has more than 128 characters`},
	} {
		ref, err := ParseReference(test.in)
		if got := cmp.Or(errText(err), ref.String()); got != test.want {
			t.Errorf("ParseReference(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

func TestFamiliar(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ in, want string }{
		{"alpine", "alpine:latest"},
		{"docker.io/library/alpine:3", "alpine:3"},
		{"user/app", "user/app:latest"},
		{"library/a/b", "library/a/b:latest"},
		{"docker.io/my.org/b", "docker.io/my.org/b:latest"},
		{"docker.io/localhost/b", "docker.io/localhost/b:latest"},
		{"ghcr.io/o/r@" + digA, "ghcr.io/o/r@" + digA},
		{"docker.io/library/" + hexA + "@" + digA, "docker.io/library/" + hexA + "@" + digA},
	} {
		ref, err := ParseReference(test.in)
		if err != nil {
			t.Errorf("ParseReference(%q): %v", test.in, err)
		}
		if got := ref.Familiar(); got != test.want {
			t.Errorf("ParseReference(%q).Familiar() = %q, want %q", test.in, got, test.want)
		}
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"alpine", "a/b:c@" + digA, "[::1]:5/a", "localhost:5000/a", "docker.io/localhost/a", "../x", "A/a:b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := ParseReference(s)
		if err != nil {
			if ref != (Reference{}) {
				t.Errorf("ParseReference(%q) = %v with error %v", s, ref, err)
			}
			return
		}
		if strings.Contains(ref.String(), "..") || strings.ContainsAny(ref.String(), "+ \x00\n") {
			t.Errorf("ParseReference(%q) = %q", s, ref)
		}
		for _, form := range []string{ref.String(), ref.Familiar()} {
			if again, err := ParseReference(form); err != nil || again != ref {
				t.Errorf("ParseReference(%q) = %v, but ParseReference(%q) = %v, %v", s, ref, form, again, err)
			}
		}
	})
}
