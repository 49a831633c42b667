package runtime

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const testPasswd = `root:x:0:0:root:/root:/bin/sh
# a comment
daemon:x:1:1:daemon:/usr/sbin:/sbin/nologin

1000:x:7:7::/odd:/bin/sh
app:x:1000:1001:App:/home/app:/bin/sh
second:x:1000:9:App:/home/second:/bin/sh
nohome:x:1002:1002
+::::::
broken:x:many:0::/:
`

const testGroup = `root:x:0:root
daemon:x:1:
wheel:x:10:root,app
users:x:100:app,daemon
twice:x:100:app
1001:x:55:
bad:x:z:app
`

func TestLookupUser(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"", "0:0 [0 10] /root"},
		{"0", "0:0 [0 10] /root"},
		{"root", "0:0 [0 10] /root"},
		{"app", "1000:1001 [10 100] /home/app"},
		{"1000", "1000:1001 [10 100] /home/app"}, // the number, not the user of that name
		{"second", "1000:9 [] /home/second"},
		{"nohome", "1002:1002 [] /"},
		{"1234", "1234:0 [] /"},
		{"007", "7:7 [] /odd"},
		{"app:wheel", "1000:10 [] /home/app"},
		{"app:5", "1000:5 [] /home/app"},
		{"app:", "1000:1001 [10 100] /home/app"},
		{"app:1001", "1000:1001 [] /home/app"}, // the number, not the group of that name
		{":users", "0:100 [] /root"},
		{"1234:1234", "1234:1234 [] /"},
		{"2147483647", "2147483647:0 [] /"},
		{"2147483648", `user "2147483648": 2147483648 is not a number from 0 to 2147483647`},
		{"-1", `user "-1": -1 is not a number from 0 to 2147483647`},
		{"+1", `user "+1": +1 is not a number from 0 to 2147483647`},
		{"1:99999999999999999999", `user "1:99999999999999999999": 99999999999999999999 is not a number from 0 to 2147483647`},
		{"nobody", `user "nobody": there is no such user in the image's passwd file`},
		{"broken", `user "broken": there is no such user in the image's passwd file`},
		{"+", `user "+": there is no such user in the image's passwd file`},
		{"app:nogroup", `user "app:nogroup": there is no such group in the image's group file`},
		{"app:bad", `user "app:bad": there is no such group in the image's group file`},
	} {
		u, err := LookupUser(test.in, strings.NewReader(testPasswd), strings.NewReader(testGroup))
		got := fmt.Sprint(u, u.Groups, " ", u.Home)
		if err != nil {
			got = err.Error()
			if _, ok := errors.AsType[UnknownUserError](err); !ok {
				t.Errorf("LookupUser(%q): %T is no UnknownUserError", test.in, err)
			}
		}
		if got != test.want {
			t.Errorf("LookupUser(%q) = %s, want %s", test.in, got, test.want)
		}
	}
}

func TestLookupUserWithoutFiles(t *testing.T) {
	if u, err := LookupUser("5:6", nil, nil); err != nil || u.UID != 5 || u.GID != 6 || u.Home != "/" {
		t.Errorf("5:6 = %v, %v", u, err)
	}
	if _, err := LookupUser("app", nil, nil); err == nil {
		t.Error("a name is found without a passwd file")
	}
}

// endless is a file that never ends.
type endless struct{ n int64 }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	e.n += int64(len(p))
	return len(p), nil
}

func TestLookupUserLimit(t *testing.T) {
	long(t)
	e := &endless{}
	if _, err := LookupUser("app", e, nil); err == nil || !strings.Contains(err.Error(), "10 MiB") {
		t.Errorf("error %v, want one that names the limit", err)
	}
	if e.n > 2*maxUserFile {
		t.Errorf("read %d bytes", e.n)
	}
	lines := io.MultiReader(strings.NewReader(strings.Repeat("a:x:1:1::/:\n", 1<<20)), &endless{})
	if _, err := LookupUser("app", lines, nil); err == nil || !strings.Contains(err.Error(), "10 MiB") {
		t.Errorf("error %v, want one that names the limit", err)
	}
}

func FuzzLookupUser(f *testing.F) {
	f.Add("app:wheel", testPasswd, testGroup)
	f.Add("1000", testPasswd, testGroup)
	f.Add("-0", ":::::", ":::")
	f.Fuzz(func(t *testing.T, user, passwd, group string) {
		u, err := LookupUser(user, strings.NewReader(passwd), strings.NewReader(group))
		if err != nil {
			if u.Home != "" || u.Groups != nil {
				t.Error("a user beside an error")
			}
			return
		}
		if u.UID > maxID || u.GID > maxID || u.Home == "" {
			t.Errorf("LookupUser(%q) = %+v", user, u)
		}
		name, _, explicit := strings.Cut(user, ":")
		if id, numeric, _ := parseID(name); numeric && u.UID != id {
			t.Errorf("LookupUser(%q) = %+v, not the number", user, u)
		}
		if _, g, _ := strings.Cut(user, ":"); explicit && g != "" && u.Groups != nil {
			t.Errorf("LookupUser(%q) = %+v, with supplementary groups", user, u)
		}
	})
}

func TestAddGroups(t *testing.T) {
	const group = "wheel:x:10:\nvideo:x:44:root\nwheel:x:11:\n"
	for _, test := range []struct {
		names []string
		want  string
	}{
		{nil, "[7]"},
		{[]string{"video", "wheel", "7", "99"}, "[7 44 10 99]"},
		{[]string{"nobody"}, `group "nobody": there is no such group in the image's group file`},
		{[]string{"-1"}, `group "-1": -1 is not a number from 0 to 2147483647`},
	} {
		u := User{Groups: []uint32{7}}
		got := ""
		if err := u.AddGroups(test.names, strings.NewReader(group)); err != nil {
			got = err.Error()
		} else {
			got = fmt.Sprint(u.Groups)
		}
		if got != test.want {
			t.Errorf("%q: %s, want %s", test.names, got, test.want)
		}
	}
}

// TestNotDumpable: who becomes a user is not his to trace, whatever fs.suid_dumpable says, before it gives up the capabilities by which
// the kernel has kept him off until then.
func TestNotDumpable(t *testing.T) {
	s := &setup{spec: &Spec{}}
	if err := s.becomeUser(capabilities{}); err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, o := range s.ops {
		switch {
		case o.nr == unix.SYS_SETRESGID || o.nr == unix.SYS_SETRESUID:
			list = append(list, "ids")
		case o.nr == unix.SYS_CAPSET:
			list = append(list, "capabilities")
		case o.nr == unix.SYS_PRCTL && o.args[0].n == unix.PR_SET_KEEPCAPS && o.args[1].n == 1:
			list = append(list, "keep")
		case o.nr == unix.SYS_PRCTL && o.args[0].n == unix.PR_SET_DUMPABLE && o.args[1].n == 0:
			list = append(list, "shelter")
		}
	}
	if got, want := strings.Join(list, " "), "keep ids ids shelter capabilities"; got != want {
		t.Errorf("order %q, want %q", got, want)
	}
}
